"""Failures that only a GPU shows: the serving loop goes on, and a counter says why.

    survives.py PLAN PLAN_WITHOUT_NAMES [PLAN_NOT_SHARED]

A context that is destroyed inside of its block while the twin runs; an engine built with verbosity none; a twin that does not
fit; with TensorRT before 10, an engine built without PROFILE_SHARING_0806 (no notes beside it). Exits with status 1 where
something is not as it must be.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import tensorrt as trt

from layerwatch.engines.driver import Driver
from layerwatch.engines.measurement import watched
from layerwatch.engines.plans import load
from layerwatch.engines.rig import Rig
from layerwatch.schemas.codec import Reader
from layerwatch.schemas.engines import Manifest

_TIMES = 50


def main(plan: str, nameless: str, not_shared: str = "") -> None:
    cuda = Driver()
    failed = [*destroyed(cuda, Path(plan)), *without_names(cuda, Path(nameless)), *no_room(cuda, Path(plan))]
    if not_shared:
        failed += without_sharing(cuda, Path(not_shared))
    sys.exit("\n".join(failed) or 0)


def destroyed(cuda: Driver, plan: Path) -> list[str]:
    rig = prepared(cuda, plan)
    rig.plain(graph=False)
    expected = rig.results()
    with watched(rig.engine, plan) as (probe, orders):
        orders.rate(1.0)
        equal = 0
        for _ in range(_TIMES):
            rig.spoil()
            with probe.execution(rig.context, rig.stream, rig.shapes) as run:
                rig.copy_in()
                run.context.execute_async_v3(rig.stream)
                if run.sampled:
                    rig.context = None  # the last reference: TensorRT destroys it while its twin is at work
                rig.copy_out()
                run.launched()
                cuda.synchronize(rig.stream)
            equal += rig.results() == expected
            if rig.context is None:
                rig.context = rig.engine.create_execution_context()
                rig.prepare(rig.shapes)
        told = {name: count for name, count in probe.counters().items() if count}
    return check(
        "destroyed while sampled", equal == _TIMES and told["sampled"] >= _TIMES - 2, equal=equal, **told
    )


def without_names(cuda: Driver, plan: Path) -> list[str]:
    rig = prepared(cuda, plan)
    with watched(rig.engine, plan) as (probe, orders):
        orders.rate(1.0)
        for _ in range(_TIMES):
            rig.probed(probe, graph=False)
        assert probe._watch is not None
        manifest = Reader(Manifest).decode((probe._watch._folder.path / "manifest").read_bytes())
        names = [layer.name for profile in manifest.profiles for layer in profile.layers]
        told = {name: count for name, count in probe.counters().items() if count}
    kept = told["sampled"] + told.get("socket_full", 0)
    # not the first one of a twin, nor the last, whose layers are never fetched
    good = kept >= _TIMES - 2 and len(names) > 10
    return check("no names", good, layers=len(names), first=names[:3], **told)


def no_room(cuda: Driver, plan: Path) -> list[str]:
    """All but 200 MiB of the device's memory is taken: the twin is refused, the executions go on."""
    rig = prepared(cuda, plan)
    taken = cuda.allocate(cuda.free_bytes() - (200 << 20))
    refused = is_refused("no room for a twin", rig, plan)
    cuda.free(taken)
    return refused


def without_sharing(cuda: Driver, plan: Path) -> list[str]:
    """No second context is asked for, since TensorRT 8.6 would end the process."""
    return is_refused("profiles are not shared", prepared(cuda, plan), plan)


def prepared(cuda: Driver, plan: Path) -> Rig:
    rig = Rig(cuda, load(plan, trt), trt)
    rig.prepare(rig.usual_shapes(0))
    return rig


def is_refused(what: str, rig: Rig, plan: Path) -> list[str]:
    with watched(rig.engine, plan) as (probe, orders):
        orders.rate(1.0)
        for _ in range(_TIMES):
            rig.probed(probe, graph=False)
        told: dict[str, Any] = {name: count for name, count in probe.counters().items() if count}
        why = probe.refusals.get(0, "")
    return check(what, told.get("twin_refused") == _TIMES, why=why, **told)


def check(what: str, good: bool, **found: Any) -> list[str]:
    print(json.dumps({"measure": "survives", "what": what, "good": good, **found}), flush=True)
    return [] if good else [f"{what}: not as it must be"]


if __name__ == "__main__":
    main(*sys.argv[1:])
