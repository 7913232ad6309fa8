"""What makes an instance suspect, long before it is an alert: reason to look at more of its layers, and no more.

Everything here is read from what the channels have computed anyway, once a message. A suspicion costs some sampled
executions; it is allowed to be wrong some times a day, which no alert is.
"""

from __future__ import annotations

from collections import deque

from layerwatch.detectors import execution_watch as e
from layerwatch.detectors import layer_watch as s
from layerwatch.detectors.arrays import F64, State, some
from layerwatch.detectors.execution_watch import ExecutionWatch
from layerwatch.detectors.layer_watch import LayerWatch

#: Two slow executions among so many, or two spikes: one alone is seen once in some thousand healthy ones (recordings).
_TAIL_EXECUTIONS, _SPIKE_EXECUTIONS = 200, 2000
_TAIL_S, _SPIKES_S = 10.0, 600.0
_SPIKE = 1.4  # log units, as of the channel `spikes`


#: Where each kind of suspicion comes from. Two kinds at once are rare without trouble.
KIND_OF = {
    "layer_slice": "layers",
    "layers_common": "layers",
    "isolation_forest": "layers",
    "levels": "layers",
    "end_to_end_tail": "end to end",
    "spikes": "end to end",
    "forecast": "end to end",
    "slow_path": "slow path",
    "gpu_activity": "counters",
}


class Suspicion:
    """Of one build on one instance. `channels` is what the latest message raised."""

    def __init__(self) -> None:
        self.channels: list[str] = []
        self._seen = 0
        self._tail: deque[tuple[int, float]] = deque(maxlen=2)  # number of the execution, time
        self._spikes: deque[tuple[int, float]] = deque(maxlen=2)

    def update(
        self,
        rows: F64,
        sampled: F64,
        executions: ExecutionWatch,
        layers: LayerWatch,
        others: list[str],
    ) -> None:
        """After a message was judged.

        Args:
            rows: [n, 8] its executions, columns of ExecutionWatch.
            sampled: [k, 8] those whose layers are known, columns of LayerWatch.
            others: what raised it besides, for a longer time than one message.
        """
        self.channels = list(others)
        if executions.thresholds is not None and len(rows):
            self._look_end_to_end(rows, max(executions.drift, 0.0))
        if layers.thresholds is not None and len(sampled):
            if some(sampled[:, s.SLICE] > layers.thresholds.share):
                self.channels.append("layer_slice")
            if some(sampled[:, s.COMMON] > layers.thresholds.common):
                self.channels.append("layers_common")

    def clear(self) -> None:
        """An episode has ended, or the process: what was seen before says nothing of what comes."""
        self.channels = []
        self._tail.clear()
        self._spikes.clear()

    def _look_end_to_end(self, rows: F64, level: float) -> None:
        hits = (rows[:, e.HIT] > 0).nonzero()[0]
        for index in hits.tolist():
            at = self._seen + index, float(rows[index, e.TIME])
            self._tail.append(at)
            if rows[index, e.RATIO] - level > _SPIKE:
                self._spikes.append(at)
        self._seen += len(rows)
        if not len(hits):
            return
        if _close(self._tail, _TAIL_EXECUTIONS, _TAIL_S):
            self.channels.append("end_to_end_tail")
        if _close(self._spikes, _SPIKE_EXECUTIONS, _SPIKES_S):
            self.channels.append("spikes")

    def state(self) -> State:
        return {
            "seen": self._seen,
            "tail": [list(at) for at in self._tail],
            "spikes": [list(at) for at in self._spikes],
        }

    @classmethod
    def restore(cls, state: State) -> Suspicion:
        self = cls()
        self._seen = state["seen"]
        self._tail.extend((index, time_s) for index, time_s in state["tail"])
        self._spikes.extend((index, time_s) for index, time_s in state["spikes"])
        return self


def _close(latest: deque[tuple[int, float]], executions: int, seconds: float) -> bool:
    """Whether the two latest came close to one another."""
    if len(latest) < 2:
        return False
    (first, first_s), (second, second_s) = latest
    return second - first < executions and second_s - first_s < seconds
