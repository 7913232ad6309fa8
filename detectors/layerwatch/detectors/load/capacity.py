"""How many replicas carry a rate at a target latency: queueing theory for several servers and one queue.

Waiting is that of M/M/c (Erlang C), stretched for the service times' spread as Allen and Cunneen do; the service time is taken
to be lognormal with the mean and spread that are measured. Source: Allen, Probability, Statistics and Queueing Theory, 5.3.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from statistics import NormalDist

import numpy as np

from layerwatch.detectors.arrays import F64
from layerwatch.detectors.load.block import ServiceTime

#: Share of executions that may be late because they waited: a tenth of what a p99 allows, since what is planned for is uncertain.
LATE = 0.001

_POINTS = 48
_NORMAL: F64 = np.array([NormalDist().inv_cdf((i + 0.5) / _POINTS) for i in range(_POINTS)])


def late_share(replicas: int, rate: float, service: ServiceTime, target_s: float) -> float:
    """Share of executions that take longer than the target, queueing included, in the long run; 1 where the queue only grows."""
    slack = target_s - _times(service)
    for count, waits in _waiting(rate, service.mean_s):
        if count == replicas:
            return _late(count, waits, rate, service, slack)
    raise AssertionError("counts go on without end")


def replicas_for(rate: float, service: ServiceTime, target_s: float, late: float = LATE) -> int:
    """The fewest replicas with which at most `late` of the executions miss the target because they had to wait. At least 1."""
    if rate <= 0:
        return 1
    slack = target_s - _times(service)
    unavoidable = float(np.mean(slack < 0))
    for count, waits in _waiting(rate, service.mean_s):
        if _late(count, waits, rate, service, slack) <= unavoidable + late:
            return count
    raise AssertionError("counts go on without end")


def _waiting(rate: float, mean_s: float) -> Iterator[tuple[int, float]]:
    """Share of executions that find all replicas busy (Erlang C), for 1, 2, 3, … replicas."""
    load, blocked = rate * mean_s, 1.0
    count = 0
    while True:
        count += 1
        blocked = load * blocked / (count + load * blocked)
        yield count, 1.0 if load >= count else count * blocked / (count - load * (1 - blocked))


def _late(count: int, waits: float, rate: float, service: ServiceTime, slack: F64) -> float:
    """`slack`: what is left of the target after equally likely service times (s)."""
    spare = count / service.mean_s - rate
    if spare <= 0:
        return 1.0
    drained = np.exp(np.maximum(slack, 0.0) * (-spare * 2 / (1 + service.cv2)))
    return float(np.where(slack <= 0, 1.0, waits * drained).mean())


def _times(service: ServiceTime) -> F64:
    """Equally likely service times."""
    sigma2 = math.log1p(service.cv2)
    out: F64 = service.mean_s * np.exp(math.sqrt(sigma2) * _NORMAL - sigma2 / 2)
    return out
