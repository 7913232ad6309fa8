"""What `layerwatch evaluate --loop` runs and prints."""

from __future__ import annotations

import tempfile
from pathlib import Path

from layerwatch.cli import live_loop
from layerwatch.cli.progress import Progress
from layerwatch.cli.show import console, table
from layerwatch.decision.rulebook import load_policy
from layerwatch.detectors.deciding.state import Rules
from layerwatch.detectors.models import shipped
from layerwatch.evaluation.loop.engines import FP16
from layerwatch.evaluation.loop.page import rows_of
from layerwatch.evaluation.loop.watching import InProcess
from layerwatch.evaluation.loop.world import ADDED, LENGTH_S, STARTUP_S, Story, World
from layerwatch.hosting import logs
from layerwatch.hosting.settings import Settings, load
from layerwatch.schemas.decisions import Decision
from layerwatch.schemas.times import unix_s


def run(live: float | None) -> tuple[Story, Story]:
    """The simulated service, with the loop open and then closed; prints what it comes to and what was decided.

    `live`: the closed one over loopback, by the services of a stack that is started for it, at so many times the pace.
    """
    settings = load()
    opened = _in_process(settings, closed=False)
    closed = _live(settings, live) if live else _in_process(settings, closed=True)
    console().print(table(("", "nobody obeys", "loop closed"), rows_of(opened, closed)))
    last = {decision.id: decision for decision in closed.decisions}
    columns = ("decided", "from", "to", "on", "outcome", "ended because")
    console().print(table(columns, [_row(decision, closed.start_s) for decision in last.values()]))
    return opened, closed


def _in_process(settings: Settings, *, closed: bool) -> Story:
    policy = load_policy(settings.decision.policy)
    rules = Rules(policy, "enforce", fallback=FP16.name, startup_s=STARTUP_S, max_share=1.0)
    with Progress(f"loop {'closed' if closed else 'open'}", LENGTH_S, "s") as progress:
        return World(InProcess(rules, shipped(), ADDED), closed=closed).run(progress)


def _live(settings: Settings, speed: float) -> Story:
    quiet = settings.log.model_copy(update={"level": "warning"})
    logs.configure(quiet, "evaluate")
    with tempfile.TemporaryDirectory(prefix="layerwatch-") as folder:
        return live_loop.run(settings.model_copy(update={"log": quiet}), Path(folder), speed)


def _row(decision: Decision, start_s: float) -> tuple[str, ...]:
    outcome = decision.outcome
    return (
        decision.action,
        f"{unix_s(decision.issued_at) - start_s:.0f} s",
        f"{unix_s(decision.expires_at) - start_s:.0f} s",
        decision.target.instance,
        f"{outcome.verdict}: {outcome.said}" if outcome else "",
        decision.ended_because or "",
    )
