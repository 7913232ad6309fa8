"""Signals of a service's instances for tests, and what every reader of alerts relies on."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from layerwatch.schemas.alerts import Alert, Cause, Impact
from layerwatch.schemas.signals import Episode, Signal
from layerwatch.schemas.times import unix_s

T0_S = 1_795_341_600.0


def episode(id: str = "e", cause: str = "gpu_contention", at_s: float = 0.0, **changes: Any) -> Episode:
    """An episode that opened `at_s` after the beginning of time."""
    fields: dict[str, Any] = {
        "id": id,
        "kind": "layer_latency",
        "severity": "warning",
        "onset_s": T0_S + at_s - 0.5,
        "opened_s": T0_S + at_s,
        "updated_s": T0_S + at_s,
        "summary": "layers take longer",
        "impact": Impact(10, 5, 1.5, 2.0, 3.0, 6.0),
        "causes": [Cause(cause, 0.9, "seen")],
    }
    return Episode(**{**fields, **changes})


def signal(instance: str, sequence: int, episodes: Iterable[Episode] = (), **changes: Any) -> Signal:
    """One a second."""
    fields: dict[str, Any] = {
        "service": "s",
        "instance": instance,
        "boot_ms": 1,
        "sequence": sequence,
        "engine": "sha256:1",
        "time_s": T0_S + sequence,
        "episodes": list(episodes),
    }
    return Signal(**{**fields, **changes})


def check_revisions(alerts: Iterable[Alert]) -> dict[str, Alert]:
    """The last revision of each alert, all of them in order: 1..n, firing and then resolved once, clocks forward."""
    last: dict[str, Alert] = {}
    for alert in alerts:
        before = last.get(alert.id)
        assert alert.revision == (before.revision + 1 if before else 1)
        if before is None:
            assert alert.status == "firing"
        else:
            assert before.status == "firing"
            assert alert.kind == before.kind
            assert alert.opened_at == before.opened_at
            assert unix_s(alert.updated_at) >= unix_s(before.updated_at)
        assert unix_s(alert.started_at) <= unix_s(alert.opened_at) <= unix_s(alert.updated_at)
        assert (alert.closed_at is not None) == (alert.status == "resolved")
        last[alert.id] = alert
    return last
