"""What makes an instance suspect, long before it is an alert: reason to look at more of its layers, and no more.

Everything here is read from what the channels have computed anyway, once a message. A suspicion costs some sampled
executions; it is allowed to be wrong some times a day, which no alert is. On an instance whose healthy executions are far
out more often, it takes more of them.
"""

from __future__ import annotations

from layerwatch.detectors import execution_watch as e
from layerwatch.detectors import layer_watch as s
from layerwatch.detectors.arrays import F64, State
from layerwatch.detectors.execution_watch import ExecutionWatch
from layerwatch.detectors.layer_watch import LayerWatch
from layerwatch.detectors.rare_hits import RareHits

_SPIKE = 1.4  # log units, as of the channel `spikes`

#: Window in executions (of `layers`: sampled ones) and seconds, fewest hits, share of windows that may hold too many by
#: chance, usual rate at the least: one slow execution is seen once in some thousand healthy ones, and a layer far out less
#: often (recordings). Bursts of a neighbour are few slow executions: these are believed early, and the others late.
_RULES = {
    "end_to_end_tail": (200, 10.0, 2, 0.5, 5e-4),
    "spikes": (2000, 600.0, 2, 0.01, 5e-5),
    "layer_slice": (20, 60.0, 1, 0.01, 1e-4),
    "layers_common": (20, 60.0, 1, 0.01, 1e-4),
}

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
        self._hits = {channel: RareHits(*rule) for channel, rule in _RULES.items()}

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
        calm = "episode" not in others
        if executions.thresholds is not None and len(rows):
            level = max(executions.drift, 0.0)
            hits = (rows[:, e.HIT] > 0).nonzero()[0].tolist()
            spikes = [index for index in hits if rows[index, e.RATIO] - level > _SPIKE]
            self._look("end_to_end_tail", hits, rows[:, e.TIME], calm)
            if hits and "gpu_activity" in others and "end_to_end_tail" not in self.channels:
                self.channels.append("end_to_end_tail")  # one alone: together they are rare
            self._look("spikes", spikes, rows[:, e.TIME], calm)
        if layers.thresholds is not None and len(sampled):
            for channel, column, threshold in (
                ("layer_slice", s.SLICE, layers.thresholds.share),
                ("layers_common", s.COMMON, layers.thresholds.common),
            ):
                hits = (sampled[:, column] > threshold).nonzero()[0].tolist()
                self._look(channel, hits, sampled[:, s.TIME], calm)

    def _look(self, channel: str, hits: list[int], times_s: F64, calm: bool) -> None:
        at = [(index, float(times_s[index])) for index in hits]
        if self._hits[channel].push(at, len(times_s), calm):
            self.channels.append(channel)

    def clear(self) -> None:
        """An episode has ended, or the process: what was seen before says nothing of what comes."""
        self.channels = []
        for hits in self._hits.values():
            hits.clear()

    def state(self) -> State:
        return {channel: hits.state() for channel, hits in self._hits.items()}

    @classmethod
    def restore(cls, state: State) -> Suspicion:
        self = cls()
        for channel, hits in self._hits.items():
            hits.load(state[channel])
        return self
