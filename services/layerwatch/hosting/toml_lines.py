"""Where a key is set in a TOML file, for messages to people: the parser of the standard library keeps no lines."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from typing import Any

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib


def line_of(text: str, key: tuple[str, ...]) -> int | None:
    """The line on which a key is set, or its table begins; None where the file says it in another way."""
    lines: dict[tuple[str, ...], int] = {}
    for number, path in _keys_of(text):
        for end in range(1, len(path) + 1):
            lines.setdefault(path[:end], number)
    return next((lines[key[:end]] for end in range(len(key), 0, -1) if key[:end] in lines), None)


def _keys_of(text: str) -> Iterator[tuple[int, tuple[str, ...]]]:
    """Line and full key of each table header and assignment that fits on its line."""
    table: tuple[str, ...] = ()
    for number, line in enumerate(text.splitlines(), 1):
        head = line.strip()
        is_table = head.startswith("[")
        try:
            path = _path_in(head if is_table else f"{head.partition('=')[0]} = 0")
        except tomllib.TOMLDecodeError:
            continue
        if is_table:
            table = path
        yield number, path if is_table else table + path


def _path_in(fragment: str) -> tuple[str, ...]:
    inner: Any = tomllib.loads(fragment)
    path: list[str] = []
    while isinstance(inner, dict) and inner:
        name, inner = next(iter(inner.items()))
        path.append(name)
    return tuple(path)
