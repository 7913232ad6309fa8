"""Beside the second stage: the signals of a service's instances to its load and the replicas that it needs."""

from __future__ import annotations

import msgspec

from layerwatch.detectors.arrays import pack, unpack
from layerwatch.detectors.cursor import Cursor
from layerwatch.detectors.load.block import BLOCK_S, LoadBlock
from layerwatch.detectors.load.lstm import LoadLstm
from layerwatch.detectors.load.planner import Goal, Plan, Planner
from layerwatch.schemas.load import Load
from layerwatch.schemas.signals import Signal
from layerwatch.schemas.times import rfc3339

#: Without any signal for so long, the blocks between are skipped at once.
_GAP_S = 600.0

_GONE = ("leaving", "crashed")


class _Instance(msgspec.Struct):
    """What it had executed by its last signal."""

    boot_ms: int
    sequence: int
    time_s: float
    state: str
    executed: int
    busy_s: float
    busy_s2: float


class _Open(msgspec.Struct):
    """The block that is being filled, and the instances."""

    instances: dict[str, _Instance] = {}
    start_s: float | None = None
    clock_s: float = 0.0
    executions: float = 0.0
    busy_s: float = 0.0
    busy_s2: float = 0.0


class LoadStage:
    """Folds one service's signals; a repeat changes nothing. `dump_open` is small, `dump_planner` changes with each block only."""

    def __init__(self, service: str, goal: Goal, lstm: LoadLstm | None) -> None:
        self._service, self._goal, self._lstm = service, goal, lstm
        self._open = _Open()
        self._planner = Planner(goal, lstm)
        self.planned_s = 0.0  # end of the last block that the planner has seen

    def update(self, signal: Signal) -> list[Load]:
        """The load of the blocks that have ended by this signal."""
        known = self._open.instances.get(signal.instance)
        cursor = Cursor(known.boot_ms, known.sequence) if known else Cursor()
        if signal.executed is None or not cursor.advance(signal.boot_ms, signal.sequence):
            return []
        loads = self._closed(max(self._open.clock_s, signal.time_s))
        self._add(known, signal)
        self._open.instances[signal.instance] = _Instance(
            signal.boot_ms,
            signal.sequence,
            signal.time_s,
            signal.state,
            signal.executed,
            signal.busy_s,
            signal.busy_s2,
        )
        return loads

    def _add(self, known: _Instance | None, signal: Signal) -> None:
        """What the instance has executed since its last signal, as far as that was in this block; of a stranger's past nothing
        is known."""
        opened = self._open
        if known is None or signal.executed is None or opened.start_s is None:
            return
        since_s = signal.time_s - known.time_s
        here = 1.0 if since_s <= BLOCK_S else min((signal.time_s - opened.start_s) / since_s, 1.0)
        same = known.boot_ms == signal.boot_ms
        opened.executions += here * (signal.executed - (known.executed if same else 0))
        opened.busy_s += here * (signal.busy_s - (known.busy_s if same else 0.0))
        opened.busy_s2 += here * (signal.busy_s2 - (known.busy_s2 if same else 0.0))

    def _closed(self, clock_s: float) -> list[Load]:
        opened = self._open
        if opened.start_s is None or clock_s - opened.clock_s > _GAP_S:
            self._begin(clock_s // BLOCK_S * BLOCK_S)
        opened.clock_s = clock_s
        out = []
        while opened.start_s is not None and clock_s >= opened.start_s + BLOCK_S:
            load = self._close(opened.start_s)
            out += [] if load is None else [load]
            self._begin(opened.start_s + BLOCK_S)
        return out

    def _begin(self, start_s: float) -> None:
        self._open.start_s = start_s
        self._open.executions = self._open.busy_s = self._open.busy_s2 = 0.0

    def _close(self, start_s: float) -> Load | None:
        """None where no instance was heard: no data is not zero. Or where the planner has seen the block before a restart."""
        opened, end_s = self._open, start_s + BLOCK_S
        opened.instances = {n: i for n, i in opened.instances.items() if i.time_s > start_s - _GAP_S}
        instances = sum(i.time_s >= start_s and i.state not in _GONE for i in opened.instances.values())
        if not instances or end_s <= self.planned_s:
            return None
        self.planned_s = end_s
        block = LoadBlock(end_s, opened.executions, opened.busy_s, opened.busy_s2, instances)
        return self._told(block, self._planner.update(block, instances))

    def _told(self, block: LoadBlock, plan: Plan) -> Load:
        service = self._planner.mix.service
        return Load(
            service=self._service,
            at=rfc3339(block.end_s),
            instances=block.instances,
            rate=round(block.rate, 4),
            utilisation=round(block.utilisation, 4),
            service_ms=None if service is None else round(1000 * service.mean_s, 4),
            service_cv2=None if service is None else round(service.cv2, 4),
            ahead_s=self._goal.ahead * BLOCK_S,
            expected_rate=round(plan.forecast.expected, 4),
            upper_rate=round(plan.forecast.upper, 4),
            forecaster=plan.forecast.forecaster,
            replicas=plan.replicas,
            basis=plan.basis,
        )

    def dump_open(self) -> bytes:
        return msgspec.msgpack.encode(self._open)

    def dump_planner(self) -> bytes:
        return pack({"planned_s": self.planned_s, "planner": self._planner.state()})

    @classmethod
    def restore(
        cls, service: str, goal: Goal, lstm: LoadLstm | None, opened: bytes | None, planner: bytes | None
    ) -> LoadStage:
        """From what the two dumps gave; what is missing begins anew."""
        self = cls(service, goal, lstm)
        if opened is not None:
            self._open = msgspec.msgpack.decode(opened, type=_Open)
        if planner is not None:
            state = unpack(planner)
            self.planned_s = state["planned_s"]
            self._planner = Planner.restore(state["planner"], goal, lstm)
        return self


def goal_of(target_latency_ms: float | None, startup_s: float, least: int | None, most: int | None) -> Goal:
    """What services.toml says of a service, in seconds."""
    target_s = None if target_latency_ms is None else target_latency_ms / 1000
    return Goal(target_s, startup_s, max(least or 1, 1), most)
