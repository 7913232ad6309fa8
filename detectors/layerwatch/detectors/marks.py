"""Deployments and changes that people told of: what begins right after one was most likely caused by it."""

from __future__ import annotations

from collections.abc import Sequence

import msgspec

from layerwatch.schemas.alerts import Cause
from layerwatch.schemas.operations import Operation
from layerwatch.schemas.times import unix_s

#: A change explains what begins so long after it, or is estimated to have begun so long before (s).
_AFTER_S, _BEFORE_S = 600.0, 5.0

#: From this confidence on a cause was measured: a change nearby is then told beside it, not instead of it.
_MEASURED = 0.8

_CONFIDENCE = 0.7
_NEW_BUILD = ("engine", "deployment")


def with_marks(causes: list[Cause], marks: Sequence[Operation], onset_s: float, instance: str) -> list[Cause]:
    """Causes of an episode, with the last change before its onset on that instance; the same where there is none."""
    before = [mark for mark in marks if _explains(mark, onset_s, instance)]
    if not before:
        return causes
    mark = max(before, key=at_s)
    first = causes[0]
    told = _sentence(mark, onset_s)
    assert mark.mark is not None
    if mark.mark.change not in _NEW_BUILD or first.cause == "engine_change":
        return [msgspec.structs.replace(first, evidence=f"{first.evidence}; {told}"), *causes[1:]]
    change = Cause("engine_change", _CONFIDENCE, told)
    return [first, change, *causes[1:]] if first.confidence >= _MEASURED else [change, *causes]


def at_s(mark: Operation) -> float:
    """When the change was made (unix s)."""
    return unix_s(mark.starts_at or mark.issued_at)


def _explains(mark: Operation, onset_s: float, instance: str) -> bool:
    if mark.mark is None or (mark.mark.instances and instance not in mark.mark.instances):
        return False
    return -_BEFORE_S <= onset_s - at_s(mark) <= _AFTER_S


def _sentence(mark: Operation, onset_s: float) -> str:
    assert mark.mark is not None
    what = {"engine": "a new engine", "other": "a change"}.get(
        mark.mark.change, f"a {mark.mark.change} change"
    )
    what = "a deployment" if mark.mark.change == "deployment" else what
    version = f" ({mark.mark.version})" if mark.mark.version else ""
    by = f" by {mark.author}" if mark.author else ""
    after_s = max(0.0, onset_s - at_s(mark))
    return f"{what}{version} was told of{by}, {after_s:.0f} s before it began"
