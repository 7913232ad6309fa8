"""What `layerwatch evaluate --loop` runs and prints."""

from __future__ import annotations

from layerwatch.cli.progress import Progress
from layerwatch.cli.show import console, table
from layerwatch.decision.rulebook import load_policy
from layerwatch.detectors.deciding.state import Rules
from layerwatch.detectors.models import shipped
from layerwatch.evaluation.loop.engines import FP16
from layerwatch.evaluation.loop.page import rows_of
from layerwatch.evaluation.loop.world import LENGTH_S, START_S, STARTUP_S, Story, World
from layerwatch.hosting.settings import load
from layerwatch.schemas.decisions import Decision
from layerwatch.schemas.times import unix_s


def run() -> tuple[Story, Story]:
    """The simulated service, with the loop open and then closed; prints what it comes to and what was decided."""
    models = shipped()
    rules = Rules(
        load_policy(load().decision.policy), "enforce", fallback=FP16.name, startup_s=STARTUP_S, max_share=1.0
    )
    stories = []
    for closed in (False, True):
        with Progress(f"loop {'closed' if closed else 'open'}", LENGTH_S, "s") as progress:
            stories.append(World(rules, models, closed=closed).run(progress))
    opened, closed_ = stories
    console().print(table(("", "nobody obeys", "loop closed"), rows_of(opened, closed_)))
    last = {decision.id: decision for decision in closed_.decisions}
    columns = ("decided", "from", "to", "on", "outcome", "ended because")
    console().print(table(columns, [_row(decision) for decision in last.values()]))
    return opened, closed_


def _row(decision: Decision) -> tuple[str, ...]:
    outcome = decision.outcome
    return (
        decision.action,
        f"{unix_s(decision.issued_at) - START_S:.0f} s",
        f"{unix_s(decision.expires_at) - START_S:.0f} s",
        decision.target.instance,
        f"{outcome.verdict}: {outcome.said}" if outcome else "",
        decision.ended_because or "",
    )
