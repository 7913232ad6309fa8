"""Each recorded fault as a clip of its own leads to the decision that one would want, and healthy ones to none."""

from __future__ import annotations

from functools import lru_cache

import msgspec
import pytest
from deciding import POLICY
from detection import NAMES, models, recording

from layerwatch.detectors.deciding.state import Rules
from layerwatch.evaluation.clips import clips_of
from layerwatch.evaluation.decided import DecidedVerdict, decided

#: What one may wait for the end of a decision beside its dwell: alerts close on evidence.
CLOSING_S = 8.0


@lru_cache(maxsize=1)
def verdicts() -> list[DecidedVerdict]:
    return [decided(clip, Rules(POLICY), models()) for name in NAMES for clip in clips_of(recording(name))]


def test_each_fault_leads_to_the_decision_that_one_would_want_in_enforce_and_marked_so_in_shadow() -> None:
    faults = [verdict for verdict in verdicts() if not verdict.healthy]
    assert len(faults) == 12
    assert [verdict for verdict in faults if verdict.right is not True] == []


def test_healthy_clips_lead_to_none() -> None:
    healthy = [verdict for verdict in verdicts() if verdict.healthy]
    assert len(healthy) == 17
    assert [verdict for verdict in healthy if verdict.actions] == []


def test_decisions_end_when_the_fault_ends() -> None:
    for verdict in verdicts():
        if verdict.actions:
            assert verdict.ended_s is not None
            assert verdict.ended_s <= POLICY.actions[verdict.actions[-1]].dwell_s + CLOSING_S


def test_what_is_decided_otherwise_in_shadow_would_be_seen() -> None:
    one = next(verdict for verdict in verdicts() if verdict.actions)
    changed = DecidedVerdict(**(msgspec.to_builtins(one) | {"shadow_same": False}))
    assert changed.right is False


@pytest.mark.parametrize("wanted", ["", "failover"])
def test_what_one_would_not_want_is_wrong(wanted: str) -> None:
    one = next(verdict for verdict in verdicts() if verdict.actions)
    assert DecidedVerdict(**(msgspec.to_builtins(one) | {"wanted": wanted})).right is False
