"""More hits than an instance has while nothing is wrong."""

from __future__ import annotations

import numpy as np
import pytest

from layerwatch.detectors.rare_hits import RareHits


def made(least: int = 1) -> RareHits:
    return RareHits(window=20, within_s=60.0, least=least, alpha=0.01, rate_floor=1e-4)


def push(watch: RareHits, hits: dict[int, float], executions: int = 10, calm: bool = True) -> bool:
    return watch.push(hits.items(), executions, calm)


def live(watch: RareHits, share: float, messages: int, seed: int = 1) -> list[bool]:
    """Messages of ten executions with nothing wrong, of which a share are hits; whether each is too many."""
    rng = np.random.default_rng(seed)
    return [push(watch, dict.fromkeys(np.flatnonzero(rng.random(10) < share), 0.0)) for _ in range(messages)]


def test_the_first_one_is_news() -> None:
    watch = made()
    assert not push(watch, {})
    assert push(watch, {3: 1.0})
    assert not push(watch, {})


def test_two_must_be_close_in_executions_and_in_time() -> None:
    assert push(made(2), {3: 1.0, 9: 2.0})
    far = made(2)
    push(far, {3: 1.0})
    push(far, {})
    assert not push(far, {4: 3.0})
    late = made(2)
    push(late, {9: 1.0})
    assert not push(late, {0: 62.0})


@pytest.mark.parametrize("share", [0.005, 0.02, 0.05])
def test_where_they_are_usual_it_takes_more_and_still_few(share: float) -> None:
    watch = made()
    live(watch, share, 400)
    raised = live(watch, share, 2000, seed=2)
    assert np.mean(raised) < 0.02
    assert push(watch, dict.fromkeys(range(8), 0.0))


def test_what_comes_while_something_is_wrong_is_not_usual() -> None:
    watch = made()
    for _ in range(100):
        push(watch, dict.fromkeys(range(10), 0.0), calm=False)
    watch.clear()
    assert push(watch, {0: 0.0})


def test_it_survives_a_restart() -> None:
    watch = made()
    live(watch, 0.02, 300)
    again = made()
    again.load(watch.state())
    assert live(again, 0.02, 300, seed=3) == live(watch, 0.02, 300, seed=3)
