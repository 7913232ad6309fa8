"""Fifty kills of the decision centre at random moments. LAYERWATCH_CHAOS_SEED repeats a run."""

from __future__ import annotations

import os
import random
from pathlib import Path

import pytest
from decision_kills import kill_and_compare
from stack import Service, patient_settings, running

from layerwatch.broker.local import LocalBroker
from layerwatch.hosting import topics

pytestmark = [pytest.mark.kafka, pytest.mark.chaos, pytest.mark.timeout(3600)]

ROUNDS = int(os.environ.get("LAYERWATCH_CHAOS_ROUNDS", "50"))


def test_killed_at_random_moments_it_ends_in_the_state_that_an_unbroken_run_reaches(
    own_broker: LocalBroker, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    seed = int(os.environ.get("LAYERWATCH_CHAOS_SEED", random.randrange(1 << 32)))
    chance = random.Random(f"{seed}-decisions")
    settings = patient_settings(own_broker, tmp_path, decision={"mode": "enforce"})
    topics.ensure(settings)
    centre = Service("decision", settings)

    def tell(text: str) -> None:
        with capsys.disabled():
            print(text, flush=True)

    tell(f"\ndecisions: seed {seed}")
    with running(centre):
        centre.wait_ready()
        for number in range(ROUNDS):
            kill_and_compare(settings, centre, f"chaos-{number}", chance, tell)
