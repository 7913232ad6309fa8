"""`layerwatch engine`: build plans that can be watched, and show what is in one."""

from __future__ import annotations

import time
from collections.abc import Sequence
from pathlib import Path

import click

from layerwatch.engines import build as builds
from layerwatch.engines import plans
from layerwatch.engines.description import Description, describe_plan, describe_text
from layerwatch.schemas.codec import encode_json
from layerwatch.schemas.errors import ConfigError

_FILE = click.Path(path_type=Path, dir_okay=False)
_RANGE = "MIN:USUAL:MAX"


@click.group("engine")
def command() -> None:
    """Build TensorRT engines that can be watched, and show what is in one."""


@command.command("build")
@click.argument("model", type=click.Path(path_type=Path, dir_okay=False, exists=True))
@click.option("--out", type=_FILE, help="The plan to write, for one precision; else MODEL.PRECISION.plan.")
@click.option(
    "--precision",
    "asked",
    type=click.Choice([*builds.PRECISIONS, "all"]),
    multiple=True,
    help="May be repeated; fp16 unless given. TensorRT 11 takes it from the model alone.",
)
@click.option("--batch", metavar=_RANGE, help="Of the first dimension of inputs.")
@click.option("--length", "lengths", metavar=_RANGE, multiple=True, help="One optimization profile each.")
@click.option(
    "--calibration", type=_FILE, help="A calibration cache, for INT8 of a model without Q/DQ nodes."
)
@click.option(
    "--verbosity",
    type=click.Choice(["detailed", "layer_names_only", "none"]),
    default="detailed",
    show_default=True,
    help="What the plan will tell of its layers.",
)
@click.option("--tactic-source", "sources", metavar="NAME", multiple=True, help="Only these, as trtexec's.")
@click.option(
    "--optimization-level", type=click.IntRange(0, 5), help="0 is quick to build; TensorRT's own: 3."
)
def build(
    model: Path,
    out: Path | None,
    asked: Sequence[str],
    batch: str | None,
    lengths: Sequence[str],
    calibration: Path | None,
    verbosity: str,
    sources: Sequence[str],
    optimization_level: int | None,
) -> None:
    """Build plans from MODEL (ONNX) whose layers have names and whose profiles several contexts can share.

    Beside each plan goes a PLAN.notes.json: precision, profiles, calibrated ranges.
    """
    trt = plans.tensorrt()
    chosen = builds.PRECISIONS if "all" in asked else tuple(dict.fromkeys(asked))
    chosen = builds.precisions(trt, chosen)
    if out is not None and len(chosen) > 1:
        raise click.UsageError(f"--out names one plan, and {len(chosen)} are to be built: leave it out")
    wanted = builds.Wanted(
        model,
        builds.extent(batch) if batch else None,
        [builds.extent(text) for text in lengths],
        verbosity,
        calibration,
        sources,
        optimization_level,
    )
    for number, precision in enumerate(chosen, 1):
        plan = out or model.with_name(f"{model.stem}.{precision}.plan")
        click.echo(f"building {plan} ({number} of {len(chosen)}); this takes minutes", err=True)
        began_s = time.monotonic()
        notes = builds.build(wanted, precision, plan, trt)
        click.echo(
            f"{plan}  {precision}  {max(1, len(notes.profiles))} profiles  {plan.stat().st_size >> 20} MiB  "
            f"{len(notes.ranges)} calibrated ranges  {time.monotonic() - began_s:.0f} s"
        )


@command.command("inspect")
@click.argument("file", type=click.Path(path_type=Path, dir_okay=False, exists=True))
@click.option("--json", "as_json", is_flag=True, help="The manifest as JSON.")
def inspect(file: Path, as_json: bool) -> None:
    """Print the manifest of FILE: a plan (TensorRT and its GPU are needed), or an inspector's JSON.

    The latter is what `trtexec --exportLayerInfo` writes, of TensorRT 8.6 to 11; it may be gzipped.
    """
    if plans.is_inspected(file):
        found = describe_text(plans.inspected_text(file))
        if found is None:
            raise ConfigError(
                f"{file} is no inspector's JSON: name what trtexec --exportLayerInfo has written"
            )
    else:
        found = describe_plan(file)
    if as_json:
        click.echo(encode_json(found.manifest).decode())
        return
    for line in _lines(found):
        click.echo(line)


def _lines(found: Description) -> list[str]:
    manifest = found.manifest
    lines = [
        f"{name:10} {value}"
        for name, value in (
            ("build", manifest.engine),
            ("gpu", manifest.gpu_model),
            ("tensorrt", manifest.tensorrt),
            ("precision", found.precision),
            ("verbosity", found.verbosity),
        )
        if value
    ]
    if not manifest.profiles:
        lines.append("No layers are named: build with detailed verbosity. The profiler numbers them instead.")
    for profile in manifest.profiles:
        lines.append(f"\nprofile {profile.profile}: {len(profile.layers)} layers")
        lines += [
            f"{number:5}  {layer.group:24} {layer.type:16} {layer.precision:6} {_printable(layer.name)}"
            for number, layer in enumerate(profile.layers)
        ]
    if manifest.ranges:
        lines.append("\ncalibrated ranges (largest magnitude)")
        lines += [f"{tensor.amax:12.5g}  {_printable(tensor.name)}" for tensor in manifest.ranges]
    return lines


def _printable(name: str) -> str:
    """Control characters would garble a terminal."""
    return "".join(c if c.isprintable() else " " for c in name)
