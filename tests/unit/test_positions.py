"""What is acknowledged to Kafka, whatever order records come in."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from layerwatch.hosting.positions import Partition, Positions, Taken

P = Partition("layerwatch.profiles", 3)
OTHER = Partition("layerwatch.profiles", 4)


def _begun(offset: int = 0) -> Positions:
    positions = Positions()
    positions.begin(P, offset)
    return positions


def test_a_record_is_taken_up_once() -> None:
    positions = _begun(7)
    assert positions.take(P, 7)
    assert positions.take(P, 7) is None
    assert positions.take(P, 6) is None
    assert positions.pop_holes() == {}


def test_records_of_partitions_that_are_not_ours_are_left_alone() -> None:
    positions = _begun()
    assert positions.take(OTHER, 0) is None
    positions.end([P])
    assert positions.take(P, 0) is None
    assert positions.committable(P) is None
    assert positions.pop_holes() == {}


def test_what_comes_too_early_is_read_again_from_where_it_is_missing() -> None:
    positions = _begun()
    assert positions.take(P, 0)
    assert positions.take(P, 2) is None
    assert positions.pop_holes() == {P: 1}
    assert positions.pop_holes() == {}
    assert positions.take(P, 3) is None  # another one from before
    assert positions.take(P, 1)
    assert positions.pop_holes() == {}, "it is not missing any more"


def test_a_record_done_before_an_earlier_one_is_not_acknowledged() -> None:
    positions = _begun()
    first, second = positions.take(P, 0), positions.take(P, 1)
    assert first
    assert second
    positions.finish([second])
    assert positions.committable(P) == 0
    assert positions.busy()
    positions.finish([first])
    assert positions.committable(P) == 2
    assert not positions.busy()


def test_offsets_that_kafka_holds_nothing_at_are_no_hole() -> None:
    positions = _begun()
    positions.skip(P, 1, 5)
    first = positions.take(P, 0)
    assert first
    second = positions.take(P, 5)
    assert second
    positions.finish([first])
    assert positions.committable(P) == 1, "or beyond the gap, but nothing that was not done"
    positions.finish([second])
    assert positions.committable(P) == 6


def test_deleted_before_anything_was_read() -> None:
    positions = _begun(3)
    positions.skip(P, 3, 9)
    assert positions.committable(P) == 9
    assert positions.take(P, 9)


def test_records_of_an_earlier_assignment_acknowledge_nothing() -> None:
    positions = _begun()
    stale = positions.take(P, 0)
    assert stale
    positions.end([P])
    positions.begin(P, 0)
    positions.finish([stale])
    assert positions.committable(P) == 0


@given(
    st.lists(st.tuples(st.sampled_from(["deliver", "finish", "reassign"]), st.integers(0, 30)), max_size=200)
)
def test_nothing_is_acknowledged_that_was_not_done_and_nothing_is_taken_out_of_order(
    steps: list[tuple[str, int]],
) -> None:
    positions = _begun()
    under_way: list[Taken] = []
    done: set[int] = set()
    seen = -1
    for step, number in steps:
        if step == "deliver":
            taken = positions.take(P, number)
            assert (taken is not None) == (number == seen + 1)
            if taken:
                under_way.append(taken)
                seen = number
        elif step == "finish" and under_way:
            taken = under_way.pop(number % len(under_way))
            done.add(taken.offset)
            positions.finish([taken])
        elif step == "reassign":
            committed = positions.committable(P)
            assert committed is not None
            positions.begin(P, committed)
            under_way, seen = [], committed - 1
        assert set(range(positions.committable(P) or 0)) <= done
        assert all(start == seen + 1 for start in positions.pop_holes().values())
