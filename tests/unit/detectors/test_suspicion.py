"""What makes an instance suspect: far below an alert, and yet seldom without cause."""

from __future__ import annotations

import msgspec
import numpy as np
import pytest
from detection import recording, signals, signals_of, stage_for

from layerwatch.detectors import execution_watch as e
from layerwatch.detectors import layer_watch as s
from layerwatch.detectors.arrays import F64
from layerwatch.detectors.execution_watch import ExecutionWatch
from layerwatch.detectors.execution_watch import Thresholds as HostThresholds
from layerwatch.detectors.gpu_activity import GpuActivity
from layerwatch.detectors.layer_watch import LayerWatch
from layerwatch.detectors.layer_watch import Thresholds as LayerThresholds
from layerwatch.detectors.suspicion import Suspicion
from layerwatch.evaluation.shuffled import joined
from layerwatch.schemas.profiles import COUNTER_COLUMNS, ProfileBatch

EXECUTIONS, LAYERS = ExecutionWatch(), LayerWatch()
EXECUTIONS.thresholds = HostThresholds(0.7, 0.6, 0.42)
LAYERS.thresholds = LayerThresholds(0.25, 0.15, 0.45)


def look(watch: Suspicion, hits: dict[int, float], first_s: float = 0.0, n: int = 100) -> list[str]:
    """A message of n executions, 100 a second, of which some are hits of such a log-ratio."""
    rows = np.zeros((n, 8))
    rows[:, e.TIME] = first_s + np.arange(n) / 100
    for at, ratio in hits.items():
        rows[at, [e.HIT, e.RATIO]] = 1.0, ratio
    watch.update(rows, np.empty((0, 8)), EXECUTIONS, LAYERS, [])
    return watch.channels


def test_one_slow_execution_is_nothing_and_two_close_together_are_suspect() -> None:
    watch = Suspicion()
    assert look(watch, {10: 1.2}) == []
    assert look(watch, {20: 1.2}, 1.0) == ["end_to_end_tail"]
    assert look(watch, {}, 2.0) == []
    assert look(watch, {90: 1.2}, 20.0) == []


def test_spikes_are_counted_over_thousands_of_executions() -> None:
    watch = Suspicion()
    assert look(watch, {10: 2.0}) == []
    for message in range(1, 10):
        assert look(watch, {}, float(message)) == []
    assert look(watch, {10: 2.0}, 10.0) == ["spikes"]
    far = Suspicion()
    look(far, {10: 2.0})
    for message in range(1, 21):
        look(far, {}, float(message))
    assert look(far, {10: 2.0}, 21.0) == []


def test_a_single_sampled_execution_is_enough() -> None:
    sampled = np.zeros((1, 8))
    watch = Suspicion()
    for column, value, channel in ((s.SLICE, 0.3, "layer_slice"), (s.COMMON, 0.2, "layers_common")):
        beyond = sampled.copy()
        beyond[0, column] = value
        watch.update(np.zeros((4, 8)), beyond, EXECUTIONS, LAYERS, ["levels"])
        assert watch.channels == ["levels", channel]
    watch.update(np.zeros((4, 8)), sampled, EXECUTIONS, LAYERS, [])
    assert watch.channels == []


def test_beside_work_of_others_one_slow_execution_is_enough() -> None:
    rows = np.zeros((10, 8))
    rows[4, e.HIT] = 1.0
    watch = Suspicion()
    watch.update(rows, np.empty((0, 8)), EXECUTIONS, LAYERS, ["gpu_activity"])
    assert watch.channels == ["gpu_activity", "end_to_end_tail"]


def test_spikes_raise_once_and_not_with_every_slow_execution_that_follows() -> None:
    watch = Suspicion()
    assert look(watch, {10: 2.0, 50: 2.0}) == ["end_to_end_tail", "spikes"]
    assert look(watch, {90: 1.0}, 100.0) == []


def test_it_survives_a_restart() -> None:
    watch = Suspicion()
    look(watch, {10: 2.0})
    assert look(Suspicion.restore(watch.state()), {20: 2.0}, 1.0) == ["end_to_end_tail", "spikes"]


def readings(busy: dict[int, float], first_s: float = 0.0, name: str = "tensor_active_pct") -> F64:
    rows = np.full((20, len(COUNTER_COLUMNS)), np.nan)
    rows[:, 0] = first_s + 0.1 * np.arange(20)
    rows[:, COUNTER_COLUMNS.index(name)] = 2.0
    for at, value in busy.items():
        rows[at, COUNTER_COLUMNS.index(name)] = value
    return rows


def test_a_neighbour_that_is_busy_now_and_then_shows_in_the_counters() -> None:
    activity = GpuActivity()
    activity.update(readings({3: 3.0, 9: 3.0}), warming_up=True, healthy=True)
    activity.update(readings({4: 3.5, 9: 3.5}, 2.0), warming_up=False, healthy=True)
    assert not activity.unusual
    activity.update(readings({4: 9.0}, 4.0), warming_up=False, healthy=True)
    assert not activity.unusual  # one reading may be anything
    activity.update(readings({4: 9.0, 15: 9.0}, 6.0), warming_up=False, healthy=True)
    assert activity.unusual
    again = GpuActivity.restore(activity.state())
    again.update(readings({4: 9.0, 15: 9.0}, 8.0), warming_up=False, healthy=True)
    assert again.unusual


def unusual(every: int) -> list[bool]:
    """Of each look, every two seconds; the GPU is busy in each `every`-th of them."""
    activity = GpuActivity()
    activity.update(readings({}), warming_up=True, healthy=True)
    found = []
    for look in range(1, 20 * every + 1):
        busy = {4: 9.0, 15: 9.0} if look % every == 0 else {}
        activity.update(readings(busy, 2.0 * look), warming_up=False, healthy=True)
        found.append(activity.unusual)
    return found


@pytest.mark.parametrize("every", [1, 10])
def test_what_nothing_comes_of_is_what_the_instance_does(every: int) -> None:
    found = unusual(every)
    assert sum(found) == 16  # 30 s in all, whether in one piece or now and then
    assert found.index(True) == every - 1
    assert not any(found[16 * every :])


def test_work_of_others_of_which_nothing_comes_is_no_reason_for_ever() -> None:
    """Through all of an instance's detectors: that it makes suspect does not keep it from being accepted."""
    made = recording("resnet50-h200")
    healthy = joined(made, 2 * [phase for phase in made.phases if phase.name == "normal"], "healthy")

    def beside_others(batch: ProfileBatch) -> ProfileBatch:
        counters = np.frombuffer(batch.counters, "<f8").reshape(-1, len(COUNTER_COLUMNS)).copy()
        counters[:, COUNTER_COLUMNS.index("sm_utilisation_pct")] = 60.0
        return msgspec.structs.replace(batch, counters=counters.tobytes())

    from_s = healthy.start_s + 15.0
    batches = [batch if batch.window_start_s < from_s else beside_others(batch) for batch in healthy]
    told = signals_of(stage_for(healthy), batches)
    suspect = [signal.time_s - from_s for signal in told if "gpu_activity" in signal.suspected]
    assert 0 < suspect[0] < 2
    assert max(at_s for at_s in suspect if at_s < 45) < 35
    assert told[-1].time_s - from_s > 45


def test_while_something_is_wrong_nothing_is_accepted() -> None:
    activity = GpuActivity()
    activity.update(readings({}), warming_up=True, healthy=True)
    for look in range(1, 60):
        activity.update(readings({4: 9.0, 15: 9.0}, 2.0 * look), warming_up=False, healthy=False)
        assert activity.unusual


def test_counters_that_are_not_there_say_nothing() -> None:
    activity = GpuActivity()
    for second in range(4):
        activity.update(np.full((20, len(COUNTER_COLUMNS)), np.nan), second == 0, healthy=True)
    assert not activity.unusual


@pytest.mark.parametrize("name", ["resnet50-h200", "shape-jump-h200", "rebuild-h200"])
def test_every_fault_makes_suspect_before_it_is_told(name: str) -> None:
    made = recording(name)
    told = signals(name)
    for phase in made.phases:
        inside = [one for one in told if phase.start_s <= one.time_s <= phase.end_s]
        alerted = [one for one in inside if any(e.severity != "info" for e in one.episodes)]
        if not phase.healthy and alerted:
            before = [one for one in inside if one.time_s <= alerted[0].time_s]
            assert any(one.suspected for one in before), phase.name


def test_baselines_stand_after_a_while_and_a_new_build_has_none() -> None:
    told = signals("rebuild-h200")
    stands = [one.settled for one in told]
    assert not stands[0]
    first = stands.index(True)
    changed = next(i for i, one in enumerate(told) if one.engine != told[0].engine)
    assert first < changed
    assert not told[changed].settled


def test_the_first_healthy_phase_is_not_suspect_once_baselines_stand() -> None:
    for name in ("resnet50-h200", "shape-jump-h200"):
        first = recording(name).phases[0]
        assert first.healthy
        told = [one for one in signals(name) if one.settled and one.time_s <= first.end_s]
        assert len(told) > 5
        assert not any(one.suspected for one in told), name


def test_what_was_before_an_episode_says_nothing_of_what_comes_after() -> None:
    watch = Suspicion()
    look(watch, {10: 2.0})
    watch.clear()
    assert look(watch, {20: 2.0}, 1.0) == []
