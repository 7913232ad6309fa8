"""A replay that samples what orders say, in the recording's own time."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import msgspec
import pytest
from click.testing import CliRunner
from detection import recording

from layerwatch.cli.replay import command
from layerwatch.recording.obey import Obedient
from layerwatch.recording.thin import thinned
from layerwatch.schemas.control import Control
from layerwatch.schemas.profiles import ProfileBatch

NAME = "resnet50-h200"
DATA = Path(__file__).parents[1] / "data"


def order(tier: Any, issued_s: float, for_s: float = 15.0, **fields: Any) -> Control:
    first = recording(NAME).batches[0]
    whose: dict[str, Any] = {"service": first.service, "instance": first.instance, **fields}
    return Control(tier=tier, issued_s=issued_s, expires_s=issued_s + for_s, **whose)


def share(batch: ProfileBatch) -> float:
    return sum(len(block.rows) // 4 for block in batch.layers) / (len(batch.end_to_end_ms) // 4)


def test_without_orders_it_keeps_the_same_layers_as_a_thinned_recording() -> None:
    obedient = Obedient(0.05)
    sent = [obedient.thinned(batch) for batch in recording(NAME)]
    assert {batch.tier for batch in sent} == {"baseline"}
    expected = thinned(recording(NAME), 0.05).batches
    assert [b.layers for b in sent] == [b.layers for b in expected]
    assert obedient.executions == recording(NAME).executions
    assert obedient.sampled == pytest.approx(0.05 * obedient.executions, abs=5)


def test_an_order_counts_until_it_expires_and_no_longer() -> None:
    batches = recording(NAME).batches
    obedient = Obedient(0.01)
    issued_s = batches[4].window_end_s
    sent = []
    for number, batch in enumerate(batches[:80]):
        sent.append(obedient.thinned(batch))
        if number == 4:
            obedient.take([order("canary", issued_s, 5.0)])
    tiers = [batch.tier for batch in sent]
    assert tiers[:5] == ["baseline"] * 5
    raised = [batch for batch in sent if batch.tier == "canary"]
    assert all(share(batch) == 1.0 and batch.rate == 1.0 for batch in raised)
    assert tiers[5] == "canary"
    assert raised[-1].window_end_s <= issued_s + 5.0 < sent[5 + len(raised)].window_end_s
    assert set(tiers[5 + len(raised) :]) == {"baseline"}


@pytest.mark.parametrize(
    ("tier", "expected"), [("off", 0.0), ("baseline", 0.05), ("evidence", 0.1), ("canary", 1.0)]
)
def test_each_tier_has_its_rate(tier: str, expected: float) -> None:
    batches = recording(NAME).batches[:30]
    obedient = Obedient(0.05)
    obedient.take([order(tier, batches[0].window_start_s, 1e6)])
    sent = [obedient.thinned(batch) for batch in batches]
    assert obedient.sampled / obedient.executions == pytest.approx(expected, abs=0.01)
    assert {(batch.tier, batch.rate) for batch in sent} == {(tier, expected)}


def test_orders_for_others_or_of_another_time_are_not_obeyed() -> None:
    batch = recording(NAME).batches[10]
    for wrong in (
        order("canary", batch.window_end_s + 5.0),
        order("canary", batch.window_start_s - 60.0),
        order("canary", batch.window_start_s, service="another"),
        order("canary", batch.window_start_s, instance="another"),
    ):
        obedient = Obedient(0.01)
        obedient.take([wrong])
        assert obedient.thinned(batch).tier == "baseline"


def test_what_contradicts_itself_stays_as_it_was() -> None:
    broken = msgspec.structs.replace(recording(NAME).batches[0], end_to_end_ms=b"abc", times_s=b"abc")
    assert Obedient(0.5).thinned(broken).end_to_end_ms == b"abc"


def test_replay_offline_raises_sampling_and_says_how_much_it_kept(tmp_path: Path) -> None:
    alerts = tmp_path / "alerts.jsonl"
    arguments = [str(DATA / f"{NAME}.npz"), "--sample", "0.01", "--offline", "--json"]
    plain = CliRunner().invoke(command, arguments)
    obeying = CliRunner().invoke(command, [*arguments, "--obey-control", "--alerts", str(alerts)])
    assert plain.exit_code == obeying.exit_code == 0, obeying.output
    summary = msgspec.json.decode(obeying.stdout)
    assert 0.05 < summary["sampled"] / summary["executions"] < 0.4
    assert "sampled" not in msgspec.json.decode(plain.stdout)
    tiers = {msgspec.json.decode(line)["sampling"]["tier"] for line in alerts.read_text().splitlines()}
    assert "evidence" in tiers


def test_obeying_needs_a_share_to_begin_with() -> None:
    result = CliRunner().invoke(command, [str(DATA / f"{NAME}.npz"), "--obey-control", "--offline"])
    assert result.exit_code == 2
    assert "--obey-control needs --sample" in result.output
