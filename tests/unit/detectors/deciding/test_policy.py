"""The policy file: what is shipped, and what is told of a mistake in a copy of it."""

from __future__ import annotations

from importlib import resources
from pathlib import Path

import pytest

from layerwatch.decision.rulebook import load_policy
from layerwatch.detectors.deciding.policy import PRECEDENCE, shipped_policy
from layerwatch.schemas.alerts import CAUSES, KINDS
from layerwatch.schemas.decisions import ACTIONS
from layerwatch.schemas.errors import ConfigError

SHIPPED = resources.files("layerwatch.detectors.shipped").joinpath("policy.toml").read_text("utf-8")


def test_every_action_has_its_place_in_the_order() -> None:
    assert sorted(PRECEDENCE) == sorted(ACTIONS)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("cause", CAUSES)
def test_the_shipped_policy_has_an_answer_for_every_kind_and_cause(cause: str, kind: str) -> None:
    rule = shipped_policy().rule_for(kind, cause)
    assert set(rule.steps) <= set(ACTIONS)
    assert rule.reason
    assert rule.expected


@pytest.mark.parametrize(
    ("old", "new", "says"),
    [
        ('name = "default"', "name = ", "must be TOML"),
        ("version = 2", 'version = "2"', r"line \d+: version: Expected `int`"),
        ("lease_s = 300", "lease_s = 0", r"line 7: lease_s: must be above 0"),
        ("renew_s = 30", "renew_s = 300", r"line 8: renew_s: must be below lease_s"),
        ("renew_s = 30", "renews_s = 30", r"line 8: renews_s: there is no such key; did you mean 'renew_s'"),
        ("[actions.shed]", "[actions.shet]", r"actions\.shet: .*did you mean 'shed'"),
        ("[causes.unknown]", "[causes.unknwon]", r"causes\.unknwon: .*did you mean 'unknown'"),
        ("[causes.load]", "[kinds.precursor]", r"causes: add a table \[causes\.load\]"),
        ("evidence = 2", "evidence = 1", r"actions\.fallback_precision\.evidence: .*needs 2 independent"),
        ("dwell_s = 120 ", "dwell_s = -1 ", r"actions\.restore\.dwell_s: must not be below 0"),
        ("dwell_s = 120 ", "dwell_s = 300 ", r"actions\.restore\.dwell_s: must be below lease_s"),
        ('["scale_out", "shed"]', '["scale_out", "jump"]', r"steps: 'jump' is no step: one of none"),
        ('["scale_out", "shed"]', "[]", r"steps: name one action at least"),
        ('["scale_out", "shed"]', '"scale_out"', r"steps: Expected `array`"),
        ('["scale_out", "shed"]', '["restore"]', r"'restore' is no step"),
    ],
)
def test_a_mistake_is_told_with_line_and_key(tmp_path: Path, old: str, new: str, says: str) -> None:
    path = tmp_path / "policy.toml"
    assert old in SHIPPED
    path.write_text(SHIPPED.replace(old, new, 1))
    with pytest.raises(ConfigError, match=says) as told:
        load_policy(path)
    assert str(path) in str(told.value)


def test_a_file_that_is_not_there_is_told_with_its_setting(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="LAYERWATCH_DECISION__POLICY"):
        load_policy(tmp_path / "none.toml")
