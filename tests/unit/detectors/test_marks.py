"""Changes that people told of, as causes."""

from __future__ import annotations

from typing import Any

import pytest

from layerwatch.detectors.marks import with_marks
from layerwatch.schemas.alerts import Cause
from layerwatch.schemas.operations import Mark, Operation
from layerwatch.schemas.times import rfc3339

AT_S = 1_800_000_000.0
UNKNOWN = Cause("unknown", 0.3, "no pattern")
MEASURED = Cause("gpu_contention", 0.9, "SM utilisation 34 -> 97 %")


def mark(change: Any = "deployment", at_s: float = 0.0, **fields: Any) -> Operation:
    told = Mark(change, **fields)
    at = rfc3339(AT_S + at_s)
    return Operation(id="m", kind="mark", service="s", author="ci", issued_at=at, mark=told)


@pytest.mark.parametrize("change", ["deployment", "engine"])
def test_what_begins_right_after_a_new_build_was_most_likely_caused_by_it(change: str) -> None:
    first, second = with_marks([UNKNOWN], [mark(change, version="v12")], AT_S + 40, "i")
    assert (first.cause, second) == ("engine_change", UNKNOWN)
    assert "(v12) was told of by ci, 40 s before it began" in first.evidence


def test_a_cause_that_was_measured_stays_first() -> None:
    assert [c.cause for c in with_marks([MEASURED], [mark()], AT_S + 40, "i")] == [
        "gpu_contention",
        "engine_change",
    ]


def test_a_change_that_is_no_build_is_told_beside_the_cause() -> None:
    (cause,) = with_marks([UNKNOWN], [mark("driver", version="590")], AT_S + 40, "i")
    assert (cause.cause, cause.confidence) == ("unknown", 0.3)
    assert cause.evidence == "no pattern; a driver change (590) was told of by ci, 40 s before it began"


@pytest.mark.parametrize(
    ("told", "onset_s"),
    [(mark(), 601), (mark(), -6), (mark(instances=["other"]), 40)],
)
def test_a_change_long_before_or_elsewhere_explains_nothing(told: Operation, onset_s: float) -> None:
    assert with_marks([UNKNOWN], [told], AT_S + onset_s, "i") == [UNKNOWN]


def test_the_last_change_counts() -> None:
    marks = [mark(version="old", at_s=-60), mark(version="new", at_s=-10)]
    assert "(new)" in with_marks([UNKNOWN], marks, AT_S, "i")[0].evidence
