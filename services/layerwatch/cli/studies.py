"""What `layerwatch evaluate` runs and prints: verdicts, power, or the safety net."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import click

from layerwatch.cli.progress import Progress
from layerwatch.cli.show import console, table
from layerwatch.decision.rulebook import load_policy
from layerwatch.detectors.deciding.state import Rules
from layerwatch.detectors.models import shipped
from layerwatch.evaluation.alone import alone
from layerwatch.evaluation.clips import clips_of
from layerwatch.evaluation.conditions import Condition
from layerwatch.evaluation.decided import DecidedVerdict, decided, record_of
from layerwatch.evaluation.power.study import Trial, power_of, trials_of
from layerwatch.evaluation.power.summary import WANTED, Power, by_class, by_recording, power_record
from layerwatch.evaluation.run import Evaluation, evaluate
from layerwatch.evaluation.safety_net import Net, net_record, safety_net
from layerwatch.evaluation.shuffled import shuffled
from layerwatch.hosting.settings import load
from layerwatch.recording.open import open_recording

_POWER_COLUMNS = ("noticed", "warned", "after", "right place first", "false alarms before")
_DECIDED_COLUMNS = (
    "fault",
    "first cause",
    "alert after",
    "decided",
    "after",
    "ended, from its end",
    "in shadow",
    "as wanted",
)
_NET_COLUMNS = (
    "recording",
    "fault",
    "caught first by",
    "without it",
    "after",
    "caught by",
    "without the forest too",
)


def verdicts(
    files: Sequence[Path], conditions: Sequence[Condition], shuffles: int, *, alone_each: bool = False
) -> list[Evaluation]:
    """Every file under every condition; or, with `shuffles`, so many orders of its phases instead, or each fault alone."""
    evaluations = []
    for condition in conditions:
        for file in files:
            recorded = open_recording(file)
            clips = alone(recorded) if alone_each else [shuffled(recorded, seed) for seed in range(shuffles)]
            for recording in clips or [recorded]:
                with Progress(f"{recording.name}, {condition}", recording.executions) as progress:
                    evaluations.append(evaluate(recording, condition, progress=progress))
    return evaluations


def power(files: Sequence[Path], conditions: Sequence[Condition], seeds: int) -> list[dict[str, Any]]:
    """Print the power at each condition; the same as plain data."""
    models = shipped()
    records = []
    for condition in conditions:
        trials: list[Trial] = []
        for file in files:
            recording = open_recording(file)
            with Progress(f"power on {recording.name}, {condition}", trials_of(seeds), "trials") as progress:
                trials += power_of(recording, condition, seeds, models, progress)
        click.echo(
            f"{condition}, {seeds} seeds a recording; wanted: {WANTED:.0%} of faults noticed, no warning where all is well"
        )
        for names, powers in (
            (("fault", "layer", "shapes"), by_class(trials)),
            (("fault", "recording"), by_recording(trials)),
        ):
            console().print(table((*names, *_POWER_COLUMNS), map(_power_row, powers)))
        records.append(power_record(trials, condition.sample, condition.counters, seeds))
    return records


def net(files: Sequence[Path], conditions: Sequence[Condition]) -> list[dict[str, Any]]:
    """Print what catches each fault without its first channel; the same as plain data."""
    models = shipped()
    records = []
    for condition in conditions:
        nets: list[Net] = []
        for file in files:
            recording = open_recording(file)
            with Progress(f"safety net on {recording.name}, {condition}", None, "runs") as progress:
                nets += safety_net(recording, condition, models, progress)
        console().print(table(_NET_COLUMNS, map(_net_row, nets)))
        caught = sum(one.without_first.caught for one in nets)
        needed = sum(one.forest_needed for one in nets)
        alarms = sum({(one.recording, one.first): one.false_alarms for one in nets}.values())
        click.echo(
            f"{condition}: {caught} of {len(nets)} caught without their first channel, {needed} of them by the forest "
            f"alone; {alarms} false alarms\n"
        )
        records.append(net_record(nets, condition))
    return records


def decisions(files: Sequence[Path], conditions: Sequence[Condition]) -> list[dict[str, Any]]:
    """Print what would be decided in each phase, after a healthy lead-in; the same as plain data."""
    models, settings = shipped(), load()
    policy = load_policy(settings.decision.policy)
    records = []
    for condition in conditions:
        verdicts: list[DecidedVerdict] = []
        for file in files:
            for clip in clips_of(condition.apply(open_recording(file))):
                with Progress(clip.recording.name, clip.recording.executions) as progress:
                    verdicts.append(decided(clip, Rules(policy), models, progress))
        faults = [verdict for verdict in verdicts if not verdict.healthy]
        healthy = [verdict for verdict in verdicts if verdict.healthy]
        console().print(table(_DECIDED_COLUMNS, map(_decided_row, faults)))
        judged = [verdict.right for verdict in faults if verdict.right is not None]
        idle = sum(not verdict.actions for verdict in healthy)
        click.echo(
            f"{condition}, policy {policy.label}: {sum(judged)} of {len(judged)} faults decided as one would want; "
            f"none in {idle} of {len(healthy)} healthy clips\n"
        )
        records.append(
            {"condition": str(condition), "policy": policy.label, "clips": list(map(record_of, verdicts))}
        )
    return records


def _decided_row(verdict: DecidedVerdict) -> tuple[str, ...]:
    right = {True: "yes", False: "NO", None: ""}[verdict.right]
    return (
        verdict.clip,
        verdict.alert or "(info only)",
        "" if verdict.alert_s is None else f"{verdict.alert_s:.1f} s",
        ", ".join(verdict.actions) or "no decision",
        "" if verdict.decided_s is None else f"{verdict.decided_s:.1f} s",
        "" if verdict.ended_s is None else f"{verdict.ended_s:+.1f} s",
        "the same" if verdict.shadow_same else "OTHERS",
        right,
    )


def _power_row(power: Power) -> tuple[str, ...]:
    after = ""
    if power.delay_s is not None and power.delay_executions is not None:
        after = f"{power.delay_executions:.0f} executions, {_duration(power.delay_s)}"
    noticed = f"{power.noticed} of {power.trials}" + ("" if power.enough else " (!)")
    place = f"{power.place_right} of {power.placed}" if power.placed else ""
    return (*power.key, noticed, str(power.warned), after, place, str(power.false_alarms))


def _duration(seconds: float) -> str:
    return f"{seconds:.1f} s" if seconds < 600 else f"{seconds / 3600:.1f} h"


def _net_row(net: Net) -> tuple[str, ...]:
    rest = net.without_first
    return (
        net.recording,
        net.whole.phase.name,
        net.first,
        ("in time" if rest.in_time else "late") if rest.caught else "no",
        "" if rest.delay_s is None else f"{rest.delay_s:.1f} s, {rest.delay_executions} executions",
        net.caught_by,
        "caught" if net.without_forest.caught else "no",
    )
