"""What the probe costs on an engine, tier by tier, and which tiers keep to the ceiling."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import NamedTuple

from layerwatch.engines import plans
from layerwatch.engines.driver import Driver
from layerwatch.engines.measurement import PLAIN, Figures, compare, watched
from layerwatch.engines.rig import Rig
from layerwatch.probe import usual
from layerwatch.probe.probe import BASELINE_RATE
from layerwatch.schemas.control import RATES
from layerwatch.schemas.errors import Unavailable

#: Tier and share of executions that is sampled: baseline has a lower and an upper end.
TIERS = (
    ("off", RATES["off"]),
    ("baseline", BASELINE_RATE),
    ("baseline", RATES["baseline"]),
    ("evidence", RATES["evidence"]),
    ("canary", RATES["canary"]),
)
_EXECUTIONS = 10  # of a block: short ones, since clocks and neighbours change within a second
PATHS = ("eager", "graph")


class TierCost(NamedTuple):
    """Of one tier on one hot path. `more_pct` is of the mean: low end of the 95 % interval, mean, high end."""

    profile: int
    shapes: dict[str, tuple[int, ...]]
    path: str
    tier: str
    rate: float
    plain_ms: float
    more_pct: tuple[float, float, float]
    p99_more_pct: float
    ceiling_pct: float
    blocks: int

    @property
    def verdict(self) -> str:
        """Whether its mean keeps to the ceiling."""
        low, _, high = self.more_pct
        return "keeps" if high <= self.ceiling_pct else "exceeds" if low > self.ceiling_pct else "uncertain"


class Memory(NamedTuple):
    """Device memory of the twin of one profile: as TensorRT states it, and as it was missing afterwards (bytes)."""

    profile: int
    stated: int
    taken: int
    refused: str  # why there is no twin; empty where there is


class Subject(NamedTuple):
    plan: Path
    layers: int
    profiles: int
    gpu_model: str
    tensorrt: str
    compiled: bool  # whether the probe's compiled half is in use


def measure(
    plan: Path,
    seconds: float,
    ceilings_pct: Callable[[str], float],
    tell: Callable[[str, float], None],
    *,
    shares_profiles: bool = False,
) -> Iterator[Subject | TierCost | Memory]:
    """Each profile at its usual shapes, eager and as a CUDA graph, each for so many seconds.

    `ceilings_pct` is by tier; `tell` is called with what is being measured and how far it is (0..1); `shares_profiles` as
    in `Probe`. Raises Unavailable and ConfigError.
    """
    trt = plans.tensorrt()
    try:
        driver = Driver()
    except (OSError, RuntimeError) as error:
        raise Unavailable(f"no GPU can be used here ({error}): run this beside your runtime") from error
    engine = plans.load(plan, trt)
    rig = Rig(driver, engine, trt)
    with watched(engine, plan, shares_profiles=shares_profiles) as (probe, orders):
        yield Subject(
            plan,
            engine.num_layers,
            engine.num_optimization_profiles,
            driver.model(),
            trt.__version__,
            usual.COMPILED,
        )
        for profile in range(engine.num_optimization_profiles):
            shapes = rig.usual_shapes(profile)
            rig.prepare(shapes, profile)
            before = driver.used_bytes()
            orders.rate(1.0)
            rig.probed(probe, graph=False)
            taken = driver.used_bytes() - before
            yield Memory(profile, probe.twin_bytes(profile), taken, probe.refusals.get(profile, ""))
            for path in PATHS:
                found = compare(
                    rig,
                    probe,
                    orders,
                    {f"{tier} {rate}": rate for tier, rate in TIERS},
                    graph=path == "graph",
                    executions=_EXECUTIONS,
                    seconds=seconds,
                    tell=lambda share, what=f"profile {profile}, {path}": tell(what, share),  # type: ignore[misc]
                )
                for tier, rate in TIERS:
                    yield _tier_cost(profile, shapes, path, tier, rate, found, ceilings_pct(tier))


def _tier_cost(
    profile: int,
    shapes: dict[str, tuple[int, ...]],
    path: str,
    tier: str,
    rate: float,
    found: dict[str, Figures],
    ceiling_pct: float,
) -> TierCost:
    plain, own = found[PLAIN], found[f"{tier} {rate}"]
    assert own.more_pct is not None
    return TierCost(
        profile,
        shapes,
        path,
        tier,
        rate,
        plain.mean_ms,
        own.more_pct,
        100 * (own.p99_ms / plain.p99_ms - 1),
        ceiling_pct,
        own.blocks,
    )
