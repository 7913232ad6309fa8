"""Fifty kills of the notifier at random moments of replays. LAYERWATCH_CHAOS_SEED repeats a run."""

from __future__ import annotations

import os
import random
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from notify_bench import HOLD_S, assert_told_as_by_an_unbroken_run, bench, kill_again_and_again, play
from stack import running

from layerwatch.broker.local import LocalBroker

pytestmark = [pytest.mark.kafka, pytest.mark.chaos, pytest.mark.timeout(3600)]

KILLS = int(os.environ.get("LAYERWATCH_CHAOS_KILLS", "50"))
#: Kills a replay; from its first alert to its last notice it takes about 9 s.
_A_REPLAY, _REPLAY_S = 5, 9.0


def test_killed_fifty_times_it_tells_what_an_unbroken_run_tells_and_pages_nobody_twice(
    fresh_kafka: LocalBroker, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    seed = int(os.environ.get("LAYERWATCH_CHAOS_SEED", random.randrange(1 << 32)))
    chance = random.Random(seed)
    for number in range(-(-KILLS // _A_REPLAY)):
        home = tmp_path / str(number)
        home.mkdir()
        moments_s = sorted(chance.uniform(0, _REPLAY_S) for _ in range(_A_REPLAY))
        with (
            bench(fresh_kafka, home, f"chaos-{number}", hold_s=HOLD_S) as b,
            running(b.service),
            ThreadPoolExecutor() as pool,
        ):
            b.service.wait_ready()
            playing = pool.submit(play, b, chance)
            kill_again_and_again(b, moments_s)
            playing.result()
            assert_told_as_by_an_unbroken_run(b)
            repeats = len(b.told()) - len(set(b.told()))
            with capsys.disabled():
                killed = ", ".join(f"{moment_s:.2f}" for moment_s in moments_s)
                print(
                    f"seed {seed}, replay {number + 1}: killed at {killed} s; {len(b.pagerduty.pages)} pages,"
                    f" {len(set(b.told()))} notices, {repeats} of them twice (with the same key)",
                    flush=True,
                )
