"""Second stage: the signals of a service's instances to alerts. One trouble is one alert, however many show it."""

from __future__ import annotations

from collections.abc import Sequence

import msgspec

from layerwatch.detectors.alert_state import AlertState
from layerwatch.detectors.cursor import Cursor
from layerwatch.detectors.marks import with_marks
from layerwatch.detectors.page_budget import PageBudget, is_large
from layerwatch.detectors.sampling_policy import Mode, SamplingPolicy
from layerwatch.schemas.alerts import Alert, Cause, Impact
from layerwatch.schemas.control import Control
from layerwatch.schemas.operations import Operation
from layerwatch.schemas.signals import Episode, Signal

#: Closed episodes that are remembered, so that a repeat opens nothing.
_REMEMBERED = 256

#: An instance that said goodbye is forgotten after so long (s of the present).
_FORGET_S = 600.0

_UNKNOWN = Cause("unknown", 0.3, "the instance gave no cause")
_NO_IMPACT = Impact(0, 0, 1.0, 1.0, 0.0, 0.0)


class _Instance(msgspec.Struct):
    """What is known of an instance from its last signal."""

    signal: Signal
    boot_ms: int
    sequence: int
    silence: str = ""  # id of the alert that says it is silent


class _State(msgspec.Struct):
    instances: dict[str, _Instance] = {}
    alerts: dict[str, AlertState] = {}
    closed: dict[str, str] = {}  # episode id: alert id
    budget: PageBudget = msgspec.field(default_factory=PageBudget)
    sampling: SamplingPolicy = msgspec.field(default_factory=SamplingPolicy)


class ServiceStage:
    """Folds one service's signals. Silence is the one thing judged on the clock of the present, by `tick`.

    `orders` is what the latest signal led to for `layerwatch.control`.
    """

    def __init__(self, service: str, silence_s: float, sampling: Mode = "auto") -> None:
        self.orders: list[Control] = []
        self._service = service
        self._silence_s = silence_s
        self._sampling = sampling
        self._state = _State()
        self._arrived_s: dict[str, float] = {}  # monotonic; not kept: a restart starts the wait anew

    @property
    def firing(self) -> list[AlertState]:
        return list(self._state.alerts.values())

    @property
    def clock_s(self) -> float:
        """Event time of the newest signal, 0 without any."""
        return max((i.signal.time_s for i in self._state.instances.values()), default=0.0)

    def update(self, signal: Signal, now_s: float, marks: Sequence[Operation] = ()) -> list[Alert]:
        """`now_s`: monotonic clock of the present, for silence only. A repeat gives [] and changes nothing.

        `marks`: deployments and changes of the service that people told of.
        """
        known = self._state.instances.get(signal.instance)
        cursor = Cursor(known.boot_ms, known.sequence) if known else Cursor()
        self._arrived_s[signal.instance] = now_s
        self.orders = []
        if not cursor.advance(signal.boot_ms, signal.sequence):
            return []
        self.orders = self._state.sampling.update(signal, self._sampling)
        out = self._spoke(known, signal)
        touched = [self._place(signal, _attributed(signal, episode, marks)) for episode in signal.episodes]
        touched += self._vanished(signal)
        for alert in dict.fromkeys(t.id for t in touched if t is not None):
            out += self._revise(alert)
        self._state.instances[signal.instance] = _Instance(
            msgspec.structs.replace(signal, episodes=[]), signal.boot_ms, signal.sequence
        )
        return out

    def tick(self, now_s: float) -> list[Alert]:
        """Instances that have fallen silent without a goodbye; `now_s` as in `update`."""
        out: list[Alert] = []
        for name, instance in list(self._state.instances.items()):
            waited_s = now_s - self._arrived_s.setdefault(name, now_s)
            if instance.signal.state == "leaving" and waited_s > _FORGET_S:
                del self._state.instances[name]
            elif instance.signal.state != "leaving" and not instance.silence and waited_s > self._silence_s:
                out += self._fell_silent(instance, waited_s)
        return out

    def _place(self, signal: Signal, episode: Episode) -> AlertState | None:
        """The alert that an episode belongs to, brought up to date; None for one that has ended before."""
        if episode.id in self._state.closed:
            return None
        alert = self._alert_of(signal, episode)
        if alert is None:
            alert = AlertState.open(signal, episode)
            self._state.alerts[alert.id] = alert
        alert.show(signal, episode)
        return alert

    def _alert_of(self, signal: Signal, episode: Episode) -> AlertState | None:
        """The alert that this instance's episode shows already, or one of the same trouble on its siblings."""
        alerts = self._state.alerts.values()
        told = {other.id for other in signal.episodes}
        for alert in alerts:
            mine = alert.showing.get(signal.instance)
            if mine and mine.episode.id == episode.id:
                return alert
        for alert in alerts:
            mine = alert.showing.get(signal.instance)
            shows = mine is not None and mine.episode.closed_s is None
            if shows and alert.kind == episode.kind and mine and mine.episode.id not in told:
                return alert  # under another id: the first stage has been restarted in between
            if not shows and alert.is_same(episode, signal.engine):
                return alert
        return None

    def _vanished(self, signal: Signal) -> list[AlertState]:
        """Alerts that the instance showed and is silent on now: their end was lost on the way."""
        told = {episode.id for episode in signal.episodes}
        out = []
        for alert in self._state.alerts.values():
            mine = alert.showing.get(signal.instance)
            if (
                mine
                and mine.episode.closed_s is None
                and mine.episode.id not in told
                and alert.kind != "silence"
            ):
                end_s = max(signal.time_s, mine.episode.updated_s)  # a new process's clock may be behind
                ended = msgspec.structs.replace(mine.episode, closed_s=end_s, updated_s=end_s)
                alert.show(signal, ended)
                out.append(alert)
        return out

    def _revise(self, alert_id: str) -> list[Alert]:
        alert = self._state.alerts[alert_id]
        alert.fleet = sum(i.signal.state != "leaving" for i in self._state.instances.values())
        self._ask_for_page(alert)
        out = []
        if alert.revision == 0 and alert.resolved:
            out.append(_as_firing(alert))
        revision = alert.revise()
        if revision is not None:
            out.append(revision)
        if alert.resolved:
            del self._state.alerts[alert_id]
            self._state.closed |= {s.episode.id: alert_id for s in alert.showing.values()}
            while len(self._state.closed) > _REMEMBERED:
                del self._state.closed[next(iter(self._state.closed))]
        return out

    def _ask_for_page(self, alert: AlertState) -> None:
        """When an alert first is a warning, and again if it was held back and has grown large."""
        budget = self._state.budget
        time_s = max(s.episode.updated_s for s in alert.showing.values())
        may_ask = alert.severity != "info" and (not alert.held or is_large(alert.severity, alert.impact))
        if may_ask and not alert.paged:
            alert.held = budget.ask(alert.kind, alert.trouble, alert.severity, alert.impact, time_s)
            alert.paged = not alert.held
        if alert.paged:
            budget.seen(alert.trouble, time_s)

    def _fell_silent(self, instance: _Instance, waited_s: float) -> list[Alert]:
        signal = instance.signal
        last_s = signal.time_s
        episode = Episode(
            id=f"silence-{signal.instance}-{signal.boot_ms}-{signal.sequence}",
            kind="silence",
            severity="warning",
            onset_s=last_s,
            opened_s=last_s + waited_s,
            updated_s=last_s + waited_s,
            summary=f"{signal.instance} has sent nothing for {waited_s:.0f} s and said no goodbye",
            impact=_NO_IMPACT,
            causes=[
                Cause("unknown", 0.5, "the runtime, its agent, its host or the network between has stopped")
            ],
        )
        alert = self._place(signal, episode)
        if alert is None:
            return []
        instance.silence = alert.id
        return self._revise(alert.id)

    def _spoke(self, known: _Instance | None, signal: Signal) -> list[Alert]:
        """A silent instance is heard again: the silence has ended."""
        if known is None or not known.silence or known.silence not in self._state.alerts:
            return []
        alert = self._state.alerts[known.silence]
        mine = alert.showing[signal.instance]
        end_s = max(signal.time_s, mine.episode.opened_s)
        alert.show(signal, msgspec.structs.replace(mine.episode, closed_s=end_s, updated_s=end_s))
        return self._revise(alert.id)

    def dump(self) -> bytes:
        return msgspec.msgpack.encode(self._state)

    @classmethod
    def restore(cls, service: str, silence_s: float, data: bytes, sampling: Mode = "auto") -> ServiceStage:
        self = cls(service, silence_s, sampling)
        self._state = msgspec.msgpack.decode(data, type=_State)
        return self


def _attributed(signal: Signal, episode: Episode, marks: Sequence[Operation]) -> Episode:
    causes = with_marks(episode.causes or [_UNKNOWN], marks, episode.onset_s, signal.instance)
    return msgspec.structs.replace(episode, causes=causes)


def _as_firing(alert: AlertState) -> Alert:
    """An alert that opened and closed within one message is told as both."""
    shown = {name: s.episode for name, s in alert.showing.items()}
    for name, episode in shown.items():
        opened = msgspec.structs.replace(episode, closed_s=None, updated_s=episode.opened_s)
        alert.showing[name].episode = opened
    firing = alert.revise()
    for name, episode in shown.items():
        alert.showing[name].episode = episode
    assert firing is not None
    return firing
