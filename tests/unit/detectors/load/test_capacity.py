"""Replicas from rates and service times."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from layerwatch.detectors.load.block import ServiceTime
from layerwatch.detectors.load.capacity import LATE, late_share, replicas_for
from layerwatch.evaluation.capacity.simulation import simulate
from layerwatch.evaluation.capacity.traces import Arrivals

_rates = st.floats(0.01, 500)
_services = st.builds(ServiceTime, st.floats(0.001, 0.5), st.floats(0, 3))


@given(_rates, _services, st.floats(1.5, 20))
def test_the_fewest_replicas_that_keep_the_target(rate: float, service: ServiceTime, times: float) -> None:
    target_s = times * service.mean_s
    replicas = replicas_for(rate, service, target_s)
    unavoidable = late_share(10_000, rate, service, target_s)
    assert late_share(replicas, rate, service, target_s) <= unavoidable + LATE
    assert replicas > rate * service.mean_s, "else the queue grows without end"
    if replicas > 1:
        assert late_share(replicas - 1, rate, service, target_s) > unavoidable + LATE


@given(_rates, st.floats(1, 3), _services)
def test_more_load_never_needs_fewer_replicas(rate: float, more: float, service: ServiceTime) -> None:
    target_s = 4 * service.mean_s
    assert replicas_for(rate * more, service, target_s) >= replicas_for(rate, service, target_s)


def test_nothing_to_do_still_needs_one_replica() -> None:
    assert replicas_for(0.0, ServiceTime(0.1, 1.0), 1.0) == 1


@pytest.mark.parametrize(("replicas", "cv2"), [(1, 0.5), (4, 0.5), (4, 2.0), (20, 1.0)])
def test_the_share_of_late_executions_is_that_of_a_simulated_queue(replicas: int, cv2: float) -> None:
    draw = np.random.default_rng(replicas)
    service = ServiceTime(1.0, cv2)
    rate = 0.8 * replicas
    times = np.cumsum(draw.exponential(1 / rate, 60_000))
    sigma2 = np.log1p(cv2)
    needs = draw.lognormal(-sigma2 / 2, np.sqrt(sigma2), len(times))
    arrivals = Arrivals("drawn", times - times[0], needs)
    target_s = 5.0
    out = simulate(arrivals, lambda block, ordered: ordered, 60, target_s, replicas)
    assert late_share(replicas, rate, service, target_s) == pytest.approx(out.late_share, abs=0.02, rel=0.25)
