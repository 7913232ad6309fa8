"""Trouble on one instance, from the finding that opens it to the quiet that closes it."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass, field

import msgspec

from layerwatch.detectors.arrays import State
from layerwatch.detectors.excess import LayerExcesses
from layerwatch.detectors.finding import Finding
from layerwatch.detectors.impact import ImpactTally
from layerwatch.schemas.alerts import Cause, DetectorScore, Impact, LayerExcess
from layerwatch.schemas.engines import Layer
from layerwatch.schemas.signals import Episode

#: The kind of trouble that a channel sees; the first of these that has found something names the episode.
KIND_OF_CHANNEL = {
    "clipping": "divergence",
    "reference_error": "divergence",
    "profile_switch": "host_gap",
    "layer_slice": "layer_latency",
    "layers_common": "layer_latency",
    "layers_sum": "layer_latency",
    "layers_spread": "layer_latency",
    "single_layer": "layer_latency",
    "layer_group": "layer_latency",
    "common_level": "layer_latency",
    "host_tail": "host_gap",
    "host_level": "host_gap",
    "end_to_end_tail": "request_latency",
    "spikes": "request_latency",
    "isolation_forest": "request_latency",
    "forecast": "request_latency",
}

_STEPS = {"single_layer", "layer_group", "common_level"}
_SETTLING_S, _SETTLING_EXECUTIONS = 2.0, 20  # the cause is looked at again for so long, then kept
_HELD_BACK_S, _COUNTERS_NEEDED = 1.0, 5
_BEGUN_S = 0.2  # before it was found, at the earliest
#: Busy hosts make a handful of executions wait, with nothing wrong, once in some minutes (source: healthy executions of three
#: engines that wait for their host, played for 11 to 20 minutes each).
_LEAST_SLOW, _LEAST_SLOW_S, _LEAST_ODD_S = 10, 0.5, 0.5
_QUIET_EXECUTIONS = 60
_QUIET_S = (0.5, 2.0)
_PAUSE = 0.25  # of what has lasted: a pause that is no end, as long as the other limits allow
_SINGLE = {"spikes", "host_tail", "end_to_end_tail"}  # channels that single executions set off
_CROWDED = {"host_tail", "end_to_end_tail", "host_level"}  # too many of them in few executions
_ODD = {"isolation_forest", "forecast"}  # they find windows odd, for whatever reason
_RARE = 10  # executions to one slow one, or more: there is nothing to see between them
_RARE_QUIET, _RARE_QUIET_S = 8, 120.0  # times as many without one: by chance once in 3000; or so long
_FAR_OUT = 1.4  # log units: slow for a reason of their own; hits just beyond a threshold crowd by chance
_COUNTED, _RARE_SHARE = 20, 0.01  # so many slow ones tell their share; fewer are taken for this
_SWITCH_QUIET_S = 6.0  # without a switch there is nothing to see: seconds apart, it is still the same trouble
_SPARSE_EXECUTIONS, _SPARSE_S = 20, 5.0
_QUIET_SAMPLED = 30  # executions whose layers are known, where layers alone have shown it
_LAYERS = {"layer_slice", "layers_common", "layers_sum", "layers_spread"}
_CRITICAL_P50, _CRITICAL_P99 = 2.0, 5.0
_CRITICAL_AFTER_S = 2.0


@dataclass(slots=True)
class OpenEpisode:
    """The episode of an instance while it lasts."""

    id: str
    kind: str
    onset_s: float
    opened_s: float
    updated_s: float
    severity: str = "warning"
    hits: int = 0
    last_hit_s: float = 0.0
    quiet_executions: int = 0
    quiet_sampled: int = 0  # of them, those whose layers are known
    slow: int = 0  # executions since the onset that were hits themselves
    longest: float = 0.0  # log-ratio of the slowest of them to what its shape should take
    announced: bool = False  # told to the service: held back a moment, until counters can say why
    causes: list[Cause] = field(default_factory=list)
    findings: dict[str, DetectorScore] = field(default_factory=dict)
    tally: ImpactTally = field(default_factory=ImpactTally)
    excesses: LayerExcesses = field(default_factory=LayerExcesses)
    step: str = ""  # what levels show, as long as they alone show it, and in which layers
    stepped: list[LayerExcess] = field(default_factory=list)

    @classmethod
    def open(cls, instance: str, engine: str, findings: list[Finding], time_s: float) -> OpenEpisode:
        """The id depends on what happened and when, never on when it was processed."""
        onset_s = min(finding.onset_s for finding in findings)
        found = {finding.channel for finding in findings}
        kind = next(kind for channel, kind in KIND_OF_CHANNEL.items() if channel in found)
        text = f"{instance}|{engine}|{kind}|{onset_s * 1000:.0f}"
        return cls(
            id=hashlib.sha256(text.encode()).hexdigest()[:16],
            kind=kind,
            onset_s=onset_s,
            opened_s=time_s,
            updated_s=time_s,
            last_hit_s=time_s,
        )

    @property
    def is_step(self) -> bool:
        """Whether only levels of layers have shown it, no execution on its own, though windows may be odd for it."""
        found = set(self.findings)
        return found <= _STEPS | _ODD and not found <= _ODD

    @property
    def shows_steps(self) -> bool:
        """Whether levels of layers have shown it, others besides or not: they go on to show it."""
        return bool(set(self.findings) & _STEPS)

    @property
    def is_spikes(self) -> bool:
        """Whether it is rare executions that take far too long, and nothing else."""
        return set(self.findings) == {"spikes"}

    @property
    def _rarity(self) -> float:
        """How many executions there are to one slow one; 0 where it is not single ones that show it, far apart."""
        found = set(self.findings) - _ODD
        if self.longest < _FAR_OUT:
            return 0.0
        rarity = (self.tally.executions - self.quiet_executions) / max(self.slow, 1)
        if not found or not found <= _SINGLE or rarity < _RARE:
            return 0.0
        if self.slow >= _COUNTED:
            return rarity
        share = self.findings["spikes"].score if "spikes" in self.findings else _RARE_SHARE
        return max(rarity, 1 / share)  # the first ones are close together: else they had not been found

    @property
    def slight(self) -> bool:
        """Whether too little has come of it to be told: a hiccup of the host, a window or two that look odd."""
        found = set(self.findings)
        brief = self.last_hit_s - self.onset_s < _LEAST_SLOW_S
        if found == {"host_tail"}:
            return self.slow < _LEAST_SLOW or brief
        if found <= _SINGLE - {"spikes"} | {"layer_slice"}:
            return self.longest < _FAR_OUT and brief
        return found <= _ODD and self.last_hit_s - self.opened_s < _LEAST_ODD_S

    @property
    def begun_s(self) -> float:
        """Since when counters tell of it: the onset may be a slow execution of seconds before that was none of it."""
        return max(self.onset_s, self.opened_s - _BEGUN_S)

    @property
    def settling(self) -> bool:
        young = self.updated_s - self.opened_s <= _SETTLING_S
        return young or self.tally.executions < _SETTLING_EXECUTIONS

    def note(self, findings: list[Finding], hit: bool, executions: int, sampled: int, time_s: float) -> None:
        """What a chunk of executions showed; of `sampled` of them the layers are known."""
        self.updated_s = time_s
        for finding in findings:
            best = self.findings.get(finding.channel)
            if best is None or finding.score > best.score:
                self.findings[finding.channel] = finding.as_score()
        if findings or hit:
            self.hits += 1
            self.last_hit_s, self.quiet_executions, self.quiet_sampled = time_s, 0, 0
        else:
            self.quiet_executions += executions
            self.quiet_sampled += sampled

    def announce(self, counters_seen: int | None, *, sure: bool) -> None:
        """Tell of it as soon as its cause can be known, or a second has passed; at once if the cause is `sure`."""
        if self.announced or (self.slight and not sure):
            return
        waited_s = self.updated_s - self.opened_s
        if sure or counters_seen is None or counters_seen >= _COUNTERS_NEEDED or waited_s >= _HELD_BACK_S:
            self.announced, self.opened_s = True, self.updated_s

    def worsen(self) -> bool:
        """Make it critical if that is what requests feel; true where it has just become so."""
        if self.severity != "warning" or not _is_critical(
            self.tally.impact(), self.updated_s - self.opened_s
        ):
            return False
        self.severity = "critical"
        return True

    def is_another(self, findings: list[Finding], time_s: float) -> bool:
        """Whether they are a trouble of its own: this one has been quiet for a while, and other channels show them.

        Where few executions are sampled, what their layers have shown is open for long after it has ended.
        """
        quiet = self.quiet_executions > _QUIET_EXECUTIONS and time_s - self.last_hit_s > _QUIET_S[1]
        found = {finding.channel for finding in findings}
        if not (found and quiet):
            return False
        if self.is_spikes or self._rarity:
            # Open for long after each slow execution: only many of them in a row, and slow layers, are beyond that.
            found &= _CROWDED | _LAYERS
        return bool(found) and not found & set(self.findings)

    def over(self, clock_s: float) -> bool:
        """Quiet for long enough: in executions and in seconds, by how often hits came; or in seconds where few run.

        Single slow executions with many usual ones between them are one trouble, too, as long as they come.
        """
        quiet_s = clock_s - self.last_hit_s
        interval_s = 4 * (self.last_hit_s - self.opened_s) / max(self.hits, 1)
        if rarity := self._rarity:
            return self.quiet_executions > _RARE_QUIET * rarity or quiet_s > _RARE_QUIET_S
        rare = "layer_slice" in self.findings
        pause_s = _PAUSE * (self.last_hit_s - self.onset_s)
        least_s = _QUIET_S[1] if rare else min(max(interval_s, pause_s, _QUIET_S[0]), _QUIET_S[1])
        if "profile_switch" in self.findings:
            least_s = _SWITCH_QUIET_S
        unseen = set(self.findings) <= _LAYERS and self.quiet_sampled <= _QUIET_SAMPLED
        if self.quiet_executions > _QUIET_EXECUTIONS and quiet_s > least_s and not unseen:
            return True
        if unseen:
            return quiet_s > 2 * _SPARSE_S
        return quiet_s > _SPARSE_S and (self.quiet_executions > _SPARSE_EXECUTIONS or quiet_s > 2 * _SPARSE_S)

    def snapshot(self, names: dict[int, list[Layer]], closed_s: float | None = None) -> Episode:
        impact = self.tally.impact()
        layers = self.stepped if self.is_step else self.excesses.ranked(names)
        return Episode(
            id=self.id,
            kind=self.kind,
            severity=self.severity,
            onset_s=self.onset_s,
            opened_s=self.opened_s,
            updated_s=self.updated_s if closed_s is None else closed_s,
            closed_s=closed_s,
            summary=self.step
            if self.is_step
            else summary_of(self.kind, impact, layers, self.causes, set(self.findings)),
            impact=impact,
            buckets=self.tally.buckets(),
            layers=layers,
            causes=self.causes,
            detectors=list(self.findings.values()),
        )

    def state(self) -> State:
        return {
            "head": [self.id, self.kind, self.onset_s, self.opened_s, self.updated_s, self.severity],
            "hits": [
                self.hits,
                self.last_hit_s,
                self.quiet_executions,
                self.quiet_sampled,
                self.slow,
                self.longest,
                self.announced,
            ],
            "causes": [[c.cause, c.confidence, c.evidence] for c in self.causes],
            "findings": [[d.name, d.score, d.threshold, d.p_value] for d in self.findings.values()],
            "tally": self.tally.state(),
            "excesses": self.excesses.state(),
            "step": [self.step, msgspec.to_builtins(self.stepped)],
        }

    @classmethod
    def restore(cls, state: State) -> OpenEpisode:
        self = cls(*state["head"])
        self.hits, self.last_hit_s, self.quiet_executions, self.quiet_sampled, *rest = state["hits"]
        self.slow, self.longest, self.announced = rest
        self.causes = [Cause(*cause) for cause in state["causes"]]
        self.findings = {row[0]: DetectorScore(*row) for row in state["findings"]}
        self.tally = ImpactTally.restore(state["tally"])
        self.excesses = LayerExcesses.restore(state["excesses"])
        self.step, self.stepped = state["step"][0], msgspec.convert(state["step"][1], list[LayerExcess])
        return self


def _is_critical(impact: Impact, lasted_s: float) -> bool:
    felt = impact.p50_ratio >= _CRITICAL_P50 or impact.p99_ratio >= _CRITICAL_P99
    return felt and lasted_s >= _CRITICAL_AFTER_S and impact.affected >= 10


def summary_of(
    kind: str, impact: Impact, layers: list[LayerExcess], causes: list[Cause], channels: set[str]
) -> str:
    """One sentence for a person."""
    cause = causes[0].cause.replace("_", " ") if causes else "unknown"
    if kind == "layer_latency" and layers and "layer_slice" in channels and "layers_common" not in channels:
        worst = layers[0]
        what = f"kernels are interrupted, now here, now there; worst {worst.group or worst.name[:60]}, {worst.ratio:.0f}x"
    elif kind == "layer_latency" and layers:
        worst = layers[0]
        what = f"{worst.group or worst.name[:60]} takes {worst.ratio:.1f}x its usual time"
        if len(layers) > 1:
            what += f", {len(layers) - 1}{'+' if len(layers) >= 10 else ''} more layers slower"
    elif kind == "host_gap":
        what = "executions wait between their layers"
    elif channels == {"spikes"}:
        what = "now and then an execution takes many times as long"
    elif kind == "divergence":
        what = "tensors leave their calibrated range"
    else:
        what = "executions are slower than their shapes explain"
    felt = f"{impact.affected} of {impact.executions} executions slowed, p99 {impact.p99_ratio:.1f}x"
    return f"{what} ({felt}); {cause}"
