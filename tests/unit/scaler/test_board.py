"""The newest of each service counts, in whatever order and however often it is read; Prometheus sees only what is fresh."""

from __future__ import annotations

from pathlib import Path

from hypothesis import given
from hypothesis import strategies as st
from prometheus_client import CollectorRegistry
from scaler_records import decision, load

from layerwatch.hosting.log_source import RawRecord
from layerwatch.hosting.orders import OrderBook
from layerwatch.hosting.services import Service, Services
from layerwatch.hosting.settings import Settings
from layerwatch.scaler.answer import Known, Unknown
from layerwatch.scaler.board import Board
from layerwatch.scaler.numbers import Numbers
from layerwatch.schemas.codec import encode_json
from layerwatch.schemas.decisions import Decision
from layerwatch.schemas.load import Load
from layerwatch.schemas.operations import Operation, Override
from layerwatch.schemas.times import rfc3339
from layerwatch.schemas.topics import DECISIONS_CURRENT, LOAD

NOW_S = 1_795_341_600.0


class _Bed:
    def __init__(self, state_dir: Path, mode: str = "enforce") -> None:
        self.now_s = NOW_S
        self.orders = OrderBook(Settings(state_dir=state_dir))
        services = Services(services={"quiet": Service(mode="shadow")})
        self.board = Board(services, self.orders, mode, 60.0, lambda: self.now_s)
        self.board.ready = True

    def take(self, *records: Load | Decision | bytes) -> None:
        topic = {Load: LOAD, Decision: DECISIONS_CURRENT, bytes: LOAD}
        values = [r if isinstance(r, bytes) else encode_json(r) for r in records]
        self.board.take(
            [
                RawRecord(topic[type(r)], "t", 0, i, 0, v)
                for i, (r, v) in enumerate(zip(records, values, strict=True))
            ]
        )

    def replicas(self, service: str = "s") -> int | None:
        told = self.board.answer(service)
        return told.replicas if isinstance(told, Known) else None

    def samples(self) -> dict[str, float]:
        registry = CollectorRegistry()
        registry.register(Numbers(self.board))
        return {
            f"{s.name}{sorted(s.labels.values())}": s.value for f in registry.collect() for s in f.samples
        }


@given(st.lists(st.integers(0, 30), min_size=1, max_size=20))
def test_the_newest_counts_in_any_order(ages: list[int]) -> None:
    bed = _Bed(Path("/nonexistent"))
    bed.take(*(load(NOW_S - age, replicas=100 - age) for age in ages))
    assert bed.replicas() == 100 - min(ages)


@given(st.permutations([(1, 1), (1, 2), (2, 1), (2, 2)]))
def test_the_highest_epoch_and_revision_counts_in_any_order(order: list[tuple[int, int]]) -> None:
    bed = _Bed(Path("/nonexistent"))
    bed.take(load(NOW_S))
    for epoch, revision in order:
        replicas = 10 * epoch + revision
        bed.take(decision(NOW_S, epoch=epoch, revision=revision, parameters={"replicas": replicas}))
    assert bed.replicas() == 22


def test_what_cannot_be_read_costs_itself_alone(tmp_path: Path) -> None:
    bed = _Bed(tmp_path)
    bed.take(b"{", load(NOW_S))
    assert bed.replicas() == 5


def test_before_the_topics_are_read_nobody_is_answered(tmp_path: Path) -> None:
    bed = _Bed(tmp_path)
    bed.take(load(NOW_S))
    bed.board.ready = False
    assert isinstance(bed.board.answer("s"), Unknown)
    assert not any("recommended" in name for name in bed.samples())


def test_a_kill_switch_and_a_hands_off_are_neutral_at_once_and_end(tmp_path: Path) -> None:
    bed = _Bed(tmp_path)
    bed.take(load(NOW_S))
    bed.orders.take(
        Operation(
            id="o",
            kind="override",
            service="s",
            issued_at=rfc3339(NOW_S - 1),
            expires_at=rfc3339(NOW_S + 20),
            override=Override("none", "capacity"),
        )
    )
    assert bed.replicas() == 0
    bed.now_s += 30
    assert bed.replicas() == 5
    bed.orders.take(Operation(id="kill/*", kind="kill", service="*", issued_at=rfc3339(NOW_S)))
    assert bed.replicas() == 0


def test_the_numbers_are_those_of_the_contract_and_vanish_when_stale(tmp_path: Path) -> None:
    bed = _Bed(tmp_path)
    bed.take(load(NOW_S), load(NOW_S, "quiet"), decision(NOW_S))
    assert bed.samples() == {
        "layerwatch_recommended_replicas['s']": 5.0,
        "layerwatch_decision_active['enforce', 's', 'scale_out']": 1.0,
        "layerwatch_decision_expires_timestamp_seconds['s']": NOW_S + 300,
        "layerwatch_last_evaluation_timestamp_seconds['quiet']": NOW_S,
        "layerwatch_last_evaluation_timestamp_seconds['s']": NOW_S,
    }
    bed.now_s += 61
    assert set(bed.samples()) == {
        "layerwatch_last_evaluation_timestamp_seconds['quiet']",
        "layerwatch_last_evaluation_timestamp_seconds['s']",
    }
    bed.take(load(NOW_S + 300))
    bed.now_s = NOW_S + 301
    assert bed.samples()["layerwatch_decision_active['enforce', 's', 'scale_out']"] == 0.0, (
        "the lease has run out"
    )


@given(st.permutations(range(12)))
def test_what_is_added_for_a_decision_asks_for_no_more_in_whatever_order_it_is_read(order: list[int]) -> None:
    bed = _Bed(Path("/nonexistent"))
    loads = [load(NOW_S - 400 + 60 * i, instances=3 + (i > 6) * (i - 6), replicas=None) for i in range(12)]
    bed.now_s = NOW_S + 270
    bed.take(decision(NOW_S - 10), *(loads[i] for i in order))
    assert bed.replicas() == 4, "3 when it was made, and one more"
