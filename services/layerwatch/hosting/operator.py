"""What a stream operator is: plain code that folds the records of one topic into a state per key."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any, NamedTuple, Protocol


class Outgoing(NamedTuple):
    """A record to send. The key decides the partition."""

    topic: str
    key: bytes
    value: bytes
    headers: list[tuple[str, bytes]] | None = None


class Operator(Protocol):
    """`name` labels metrics and names the table; `parts` are the names of the pieces that `dump` may give, in its order.

    The first one holds how far the state has come. It is written last: a crash in between leaves the others newer.
    """

    @property
    def name(self) -> str: ...

    @property
    def source(self) -> str: ...

    @property
    def parts(self) -> tuple[str, ...]: ...

    async def prepare(self, value: bytes) -> Any:
        """The record in some bytes, once all that it needs is there; raises InvalidRecord."""

    def key(self, record: Any) -> bytes:
        """The key that the record must have been sent with."""

    def keys_wanted(self) -> Iterable[bytes]:
        """Keys that need a state though no record has come for them."""

    def restore(self, key: bytes, parts: Mapping[str, bytes]) -> Any:
        """The state of a key from its parts; a new one from none. Raises InvalidRecord when it cannot be had."""

    def fold(self, state: Any, record: Any) -> list[Outgoing]:
        """Fold a record in. A repeat changes nothing and gives []. Raises InvalidRecord, with nothing changed."""

    def dump(self, state: Any, *, whole: bool) -> dict[str, bytes]:
        """The parts of a state that are due to be written; all of them if `whole`."""

    def tick(self, state: Any, now_s: float) -> list[Outgoing]:
        """Once a second for each state, with the monotonic clock of the present, once the backlog of a start is folded in."""
