"""Which instances of a service sample more than their baseline, and for how long. A function of state and signal, in event time.

A new build is a canary until its baselines stand; a suspected instance gathers evidence, and goes on for a while after the
suspicion has gone; where two kinds of evidence agree and no alert has told of it yet, everything is looked at for some
seconds. All else is baseline, for which nothing need be said: an order is a lease that ends by itself.
"""

from __future__ import annotations

import math
from typing import Literal

import msgspec

from layerwatch.detectors.suspicion import KIND_OF
from layerwatch.schemas.control import Control, Tier
from layerwatch.schemas.signals import Signal

#: Who decides: this policy, or a person who wants nothing raised, or nothing sampled at all.
Mode = Literal["auto", "baseline", "off"]

#: An order holds so long unless it is renewed; renewed when a third of it has passed (s of event time).
LEASE_S = 15.0
_RENEW_S = 5.0
#: Evidence goes on for so long after the last suspicion, or after an alert has ended (s).
HOLD_S, RECOVERY_S = 10.0, 30.0
#: Where two kinds of evidence agree, everything is sampled for so long, and not again for a while (s).
_CONFIRM_S, _CONFIRM_EACH_S = 10.0, 30.0
#: A build whose baselines do not stand by then is no canary any more: its layers cannot be had, say (s).
CANARY_S = 600.0
#: Instances of a service that are raised at once: this share of them, and so many at the least.
_CANARY_SHARE, _CANARIES = 1 / 8, 1
_EVIDENCE_SHARE, _EVIDENCES = 1 / 4, 2

_SERIOUS = ("warning", "critical")


class _Instance(msgspec.Struct):
    """What one instance was told, and why."""

    boot_ms: int
    engine: str
    engine_s: float  # when it began to serve this build
    tier: Tier = "baseline"
    told_s: float = -math.inf
    hold_s: float = -math.inf  # evidence goes on until then
    agreed_s: float = -math.inf  # two kinds of evidence began to agree
    confirm_s: float = -math.inf  # everything is sampled until then
    reason: str = ""


class SamplingPolicy(msgspec.Struct):
    """Of one service; persists as it is."""

    instances: dict[str, _Instance] = {}

    def update(self, signal: Signal, mode: Mode = "auto") -> list[Control]:
        """The order that a signal leads to, if any. Signals of an instance come in order, without repeats."""
        if signal.state in ("leaving", "crashed"):
            self.instances.pop(signal.instance, None)
            return []
        own = self._known(signal)
        if mode == "auto":
            tier = self._tier(own, signal)
        else:
            tier, own.reason = mode, "set by a person"
        told, own.tier = own.tier, tier
        now_s = signal.time_s
        is_lease = tier != "baseline" and not 0 <= now_s - own.told_s < _RENEW_S
        if tier == told and not is_lease:
            return []
        own.told_s = now_s
        return [
            Control(
                service=signal.service,
                instance=signal.instance,
                tier=tier,
                issued_s=now_s,
                expires_s=now_s + LEASE_S,
                reason=own.reason,
            )
        ]

    def _known(self, signal: Signal) -> _Instance:
        own = self.instances.get(signal.instance)
        if own is None or own.boot_ms != signal.boot_ms:
            own = _Instance(signal.boot_ms, signal.engine, signal.time_s)
            self.instances[signal.instance] = own
        elif own.engine != signal.engine:
            own.engine, own.engine_s = signal.engine, signal.time_s
        return own

    def _tier(self, own: _Instance, signal: Signal) -> Tier:
        now_s = signal.time_s
        told = any(e.closed_s is None and e.severity in _SERIOUS for e in signal.episodes)
        if signal.suspected:
            own.hold_s = max(own.hold_s, now_s + (RECOVERY_S if told else HOLD_S))
            own.reason = "suspected: " + ", ".join(signal.suspected)
        is_new = not signal.settled and now_s - own.engine_s < CANARY_S
        self._confirm(own, signal, told)
        wants_all = is_new or now_s < own.confirm_s
        if wants_all and self._has_room(own, "canary", now_s, _CANARY_SHARE, _CANARIES):
            own.reason = "a new build, until its baselines stand" if is_new else own.reason
            return "canary"
        wants = is_new or now_s < own.hold_s
        if wants and self._has_room(own, "evidence", now_s, _EVIDENCE_SHARE, _EVIDENCES):
            return "evidence"
        own.reason = (
            "nothing is suspected" if not wants else "enough other instances of the service are raised"
        )
        return "baseline"

    def _confirm(self, own: _Instance, signal: Signal, told: bool) -> None:
        """Sample everything for some seconds once two kinds of evidence agree, until it is enough for an alert."""
        kinds = {KIND_OF.get(channel) for channel in signal.suspected} - {None}
        if told or "episode" in signal.suspected:
            own.confirm_s = -math.inf
        elif len(kinds) > 1 and not 0 <= signal.time_s - own.agreed_s < _CONFIRM_EACH_S:
            own.agreed_s, own.confirm_s = signal.time_s, signal.time_s + _CONFIRM_S

    def _has_room(self, own: _Instance, tier: Tier, now_s: float, share: float, least: int) -> bool:
        """Whether one more instance may have this tier: those that have it keep it, until their order ends."""

        def has(other: _Instance) -> bool:
            return other.tier == tier and 0 <= now_s - other.told_s < LEASE_S

        if has(own):
            return True
        raised = sum(other is not own and has(other) for other in self.instances.values())
        return raised < max(least, int(share * len(self.instances)))
