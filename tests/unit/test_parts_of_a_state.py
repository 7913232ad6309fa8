"""A crash between the writes of a state's parts: the baselines are then newer than the cursor."""

from __future__ import annotations

import pytest
from stack import RESNET, load, offline

from layerwatch.detectors.instance_stage import HEAVY, HOT, InstanceStage
from layerwatch.detectors.models import shipped
from layerwatch.detectors.service_stage import ServiceStage
from layerwatch.schemas.alerts import Alert


@pytest.mark.parametrize("crash", [27, 48, 76, 97, 125])
def test_baselines_that_are_newer_than_the_cursor_change_no_alert(crash: int) -> None:
    recording = load(RESNET, "crash", "crash-0")
    manifests = {manifest.engine: manifest for manifest in recording.manifests}
    before, service = InstanceStage(manifests, shipped()), ServiceStage("crash", float("inf"))
    got: list[Alert] = []
    parts: dict[str, bytes] = {}
    for index, batch in enumerate(recording.batches[:crash]):
        signal = before.update(batch)
        assert signal is not None
        got += service.update(signal, 0.0)
        if index == crash - 10:
            parts[HOT] = before.dump()[HOT]
    parts[HEAVY] = before.dump(all=True)[HEAVY]
    after = InstanceStage.restore("crash-0", parts, manifests, shipped())
    for batch in recording:
        signal = after.update(batch)
        got += service.update(signal, 0.0) if signal is not None else []
    expected = offline(recording).alerts
    assert [(a.id, a.revision, a.status) for a in got] == [(a.id, a.revision, a.status) for a in expected]
