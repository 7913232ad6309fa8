"""What the caller's own context and its twin take is known apart, and put beside one another."""

from __future__ import annotations

import numpy as np
import pytest

from layerwatch.detectors.batch import Executions
from layerwatch.detectors.end_to_end import EndToEnd
from layerwatch.detectors.shapes import point_of
from layerwatch.schemas.profiles import IN_GRAPH, ON_TWIN

SHAPES = [{"x": [batch, 128]} for batch in (1, 2, 4, 8)]
POINTS = [point_of(shape) for shape in SHAPES]
OWN_MS = np.array([2.0, 3.0, 4.0, 5.0])


def executions(path: list[int], twin: float = 1.7) -> Executions:
    """One for each of `path`, the shapes in turn; a twin takes `twin` times as long."""
    at, bits = np.arange(len(path)) % len(SHAPES), np.array(path, np.int64)
    zeros = np.zeros(len(path), np.int64)
    return Executions(
        engine="e",
        shapes=SHAPES,
        times_s=np.linspace(1000.0, 1001.0, len(path)),
        shape=at,
        profile=zeros,
        switched=zeros.astype(bool),
        changed=zeros,
        path=bits,
        end_to_end_ms=np.where(bits & ON_TWIN, twin * OWN_MS[at], OWN_MS[at]),
        layers=[],
        counters=np.empty((0, 14)),
        precision=None,
        rate=0.1,
        clock_s=2000.0,
    )


def learnt(*paths: int, messages: int = 20) -> EndToEnd:
    known = EndToEnd()
    for _ in range(messages):
        batch = executions([path for path in paths for _ in range(16)])
        known.learn(batch, POINTS, np.ones(len(batch), bool), known.expected(batch, POINTS))
    return known


def test_each_path_is_expected_to_take_its_own_time() -> None:
    batch = executions([IN_GRAPH, ON_TWIN, ON_TWIN, IN_GRAPH, 0])
    expected = learnt(IN_GRAPH, ON_TWIN).expected(batch, POINTS)
    assert expected is not None
    assert expected.known.tolist() == [True, True, True, True, False]
    assert expected.expected_ms == pytest.approx(batch.end_to_end_ms, rel=0.02)
    assert expected.seen[-1] == 0


def test_a_twin_is_put_beside_the_path_that_is_usual() -> None:
    known = learnt(IN_GRAPH, IN_GRAPH, ON_TWIN)
    longer = known.longer(executions([IN_GRAPH, ON_TWIN, 0]), POINTS)
    assert longer == pytest.approx([0.0, np.log(1.7), np.nan], abs=0.02, nan_ok=True)
    assert known.longer(executions([IN_GRAPH] * 4), POINTS) is None


@pytest.mark.parametrize(("messages", "usual"), [(20, False), (1300, True)])
def test_twins_alone_say_what_is_usual_once_it_is_no_canary_any_more(messages: int, usual: bool) -> None:
    longer = learnt(ON_TWIN, messages=messages).longer(executions([ON_TWIN] * 4), POINTS)
    assert (longer is None) is usual


def test_it_can_be_kept() -> None:
    known = learnt(IN_GRAPH, ON_TWIN)
    again = EndToEnd.restore(known.state())
    batch = executions([IN_GRAPH, ON_TWIN] * 4)
    before, after = known.expected(batch, POINTS), again.expected(batch, POINTS)
    assert before is not None
    assert after is not None
    assert after.expected_ms == pytest.approx(before.expected_ms, rel=1e-3)
    assert again.seen == known.seen
