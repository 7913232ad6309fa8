"""`layerwatch doctor --engine`: what the probe costs on an engine, for people and as JSON."""

from __future__ import annotations

import json
from collections.abc import Iterable
from pathlib import Path

import click

from layerwatch.cli.progress import Progress
from layerwatch.engines.cost import Memory, Subject, TierCost, measure
from layerwatch.hosting.settings import Settings


def report(plan: Path, seconds: float, settings: Settings, *, as_json: bool, shares_profiles: bool) -> None:
    """Measure, and print as it comes; raises Unavailable and ConfigError."""
    agent = settings.agent

    def ceiling_pct(tier: str) -> float:
        return agent.ceiling_pct if tier in ("off", "baseline") else agent.raised_ceiling_pct

    costs: list[TierCost] = []
    with Progress("measure", 100, "percent") as progress:
        measured = measure(
            plan,
            seconds,
            ceiling_pct,
            lambda what, share: progress(int(100 * share)),
            shares_profiles=shares_profiles,
        )
        for found in measured:
            if isinstance(found, TierCost):
                costs.append(found)
            for line in [as_object(found)] if as_json else lines(found, costs):
                click.echo(line)
    if not as_json:
        click.echo(f"\n{advice(costs)}")


def as_object(found: Subject | TierCost | Memory) -> str:
    entry = {"measure": type(found).__name__.lower(), **found._asdict()}
    if isinstance(found, TierCost):
        entry["verdict"] = found.verdict
    return json.dumps(entry, default=str)


def lines(found: Subject | TierCost | Memory, costs: list[TierCost]) -> Iterable[str]:
    """`costs` are those so far, the new one included."""
    if isinstance(found, Subject):
        yield f"{found.plan}: {found.layers} layers, {found.profiles} profiles, {found.gpu_model}, TensorRT {found.tensorrt}"
        if not found.compiled:
            yield (
                "The compiled half of the probe is not in use, so it costs more than it could: install a wheel for this "
                "Python, or from source where there is a C compiler, without LAYERWATCH_PROBE_COMPILED=0"
            )
    elif isinstance(found, Memory):
        yield f"\nprofile {found.profile}: " + (
            f"no layers can be sampled: {found.refused}"
            if found.refused
            else f"its twin states {found.stated >> 20} MiB of device memory and took {found.taken >> 20} MiB"
        )
    else:
        if len(costs) < 2 or costs[-2][:3] != found[:3]:
            shapes = ", ".join(f"{name} {'x'.join(map(str, dims))}" for name, dims in found.shapes.items())
            yield f"  {found.path}, {shapes}: plain {found.plain_ms:.3f} ms"
            yield "    tier      sampled   mean                        p99        ceiling"
        low, middle, high = found.more_pct
        mean = f"{middle:+.2f} % ({low:+.2f} .. {high:+.2f})"
        yield (
            f"    {found.tier:9} {found.rate:6.1%}   {mean:26}  {found.p99_more_pct:+7.2f} %  "
            f"{found.verdict}{'' if found.verdict == 'uncertain' else ' to' if found.verdict == 'keeps' else ''} "
            f"{found.ceiling_pct:g} %"
        )


def advice(costs: list[TierCost]) -> str:
    """The highest tier that keeps to its ceiling everywhere, in a sentence."""
    kept = [
        (tier, rate)
        for tier, rate in dict.fromkeys((cost.tier, cost.rate) for cost in costs)
        if all(cost.verdict == "keeps" for cost in costs if (cost.tier, cost.rate) == (tier, rate))
    ]
    if not kept:
        return (
            "No tier is sure to keep to its ceiling here: raise LAYERWATCH_AGENT__CEILING_PCT, call run.launched() as early "
            "as you can, or measure for longer (--seconds)."
        )
    tier, rate = max(kept, key=lambda found: found[1])
    return (
        f"The highest tier that keeps to its ceiling here: {tier} at {rate:.1%} sampled. The agent samples less than a tier "
        "asks for where its own measurement says that the ceiling would be passed."
    )
