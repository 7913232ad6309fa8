"""layerwatch.load: what a service carries, what is to come, and how many replicas that needs (JSON). The last counts."""

from __future__ import annotations

import msgspec

from layerwatch.schemas.codec import Reader

CE_TYPE = "layerwatch.load.v1"

BASES = ("forecast", "reactive", "learning")


class Load(msgspec.Struct, frozen=True, kw_only=True, tag_field="schema", tag="layerwatch.load/1"):
    """Of one service, after each 15 s of event time. Replicas are instances."""

    service: str
    at: str  # event time at which the 15 s ended, RFC 3339
    instances: int  # that were there to serve
    rate: float  # executions a second
    utilisation: float  # share of the instances' time, 0 to 1
    service_ms: (
        float | None
    )  # mean time of an execution in the present mix of shapes; none until some were seen
    service_cv2: float | None  # its variance over its mean's square
    ahead_s: float  # how far ahead is forecast: a replica's start-up time
    expected_rate: float  # executions a second in the minute that begins then
    upper_rate: float  # hardly ever exceeded there
    forecaster: str  # ewma, nlinear or lstm: whose errors were least
    replicas: int | None  # that should be ordered by now; none without a target latency or while learning
    basis: str  # forecast, or reactive where forecasts have not earned trust, or learning


LOAD_READER: Reader[Load] = Reader(Load, json=True)
