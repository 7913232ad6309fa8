"""How often a service may wake someone up."""

from __future__ import annotations

from typing import Any

import msgspec
from service_signals import check_revisions, episode, signal

from layerwatch.detectors.page_budget import PageBudget
from layerwatch.detectors.service_stage import ServiceStage
from layerwatch.schemas.alerts import Alert, Impact

SMALL, LARGE = Impact(10, 5, 1.1, 1.3, 3.0, 4.0), Impact(10, 5, 2.0, 6.0, 3.0, 20.0)
DAY_S = 86_400.0


def pages(budget: PageBudget, kind: str, impact: Impact, count: int, at_s: float = 0.0) -> int:
    """Of so many troubles, each another one."""
    return sum(budget.ask(kind, f"cause {k}", "warning", impact, at_s) == "" for k in range(count))


def test_small_troubles_page_twenty_times_at_once_and_then_twice_a_day() -> None:
    budget = PageBudget()
    assert pages(budget, "host_gap", SMALL, 100) == 20
    assert pages(budget, "host_gap", SMALL, 100, 3 * DAY_S) == 6


def test_what_hurts_requests_badly_always_pages() -> None:
    budget = PageBudget()
    assert pages(budget, "layer_latency", LARGE, 100) == 100
    assert budget.ask("layer_latency", "gpu_contention", "critical", SMALL, 0.0) == ""
    assert pages(budget, "host_gap", SMALL, 1) == 0


def test_the_slow_path_never_takes_the_pages_of_the_fast_one() -> None:
    budget = PageBudget()
    assert pages(budget, "precursor", LARGE, 100) == 2
    assert pages(budget, "host_gap", SMALL, 100) == 18
    assert pages(PageBudget(), "precursor", SMALL, 1) == 1


def test_a_month_of_noise_on_the_slow_path_is_a_page_a_week() -> None:
    budget = PageBudget()
    told = [budget.ask("precursor", "precursor", "warning", SMALL, hour * 3600.0) for hour in range(30 * 24)]
    assert told.count("") in (5, 6)
    assert "the slow path has had its 4 pages a month" in told


def test_what_comes_back_within_five_minutes_takes_no_further_page() -> None:
    stage = ServiceStage("s", 15.0)
    out: list[Alert] = []
    for k in range(60):  # a minute apart
        comes = episode(f"e{k}", kind="host_gap", cause="host_starvation", at_s=60.0 * k, impact=SMALL)
        goes = msgspec.structs.replace(comes, closed_s=comes.updated_s + 5, updated_s=comes.updated_s + 5)
        out += stage.update(signal("i", 2 * k, [comes], time_s=comes.updated_s), 0.0)
        out += stage.update(signal("i", 2 * k + 1, [goes], time_s=goes.updated_s), 0.0)
    assert {alert.severity for alert in out} == {"warning"}
    other = episode("other", kind="host_gap", cause="profile_switch", at_s=3600.0, impact=SMALL)
    assert stage.update(signal("i", 200, [other]), 0.0)[0].severity == "warning"


def test_what_comes_back_later_takes_a_page_each_time() -> None:
    budget, told = PageBudget(), []
    for k in range(21):
        told.append(budget.ask("host_gap", "host_starvation", "warning", SMALL, 400.0 * k))
        budget.seen("host_starvation", 400.0 * k + 99.0)
    assert told == [""] * 20 + ["the service has had its 60 pages a month"]


def test_a_clock_that_goes_back_earns_nothing() -> None:
    budget = PageBudget()
    pages(budget, "host_gap", SMALL, 20, 10 * DAY_S)
    assert pages(budget, "host_gap", SMALL, 1, 0.0) == 0
    assert pages(budget, "host_gap", SMALL, 1, 10 * DAY_S) == 0


def told(stage: ServiceStage, count: int, **changes: Any) -> list[Alert]:
    """Alerts of so many troubles, one after another on an instance of its own each."""
    out: list[Alert] = []
    for k in range(count):
        one = episode(f"e{k}", cause="unknown", at_s=float(k), kind="precursor", impact=SMALL, **changes)
        closed = msgspec.structs.replace(one, closed_s=one.updated_s + 0.5, updated_s=one.updated_s + 0.5)
        out += stage.update(signal(f"i{k}", 0, [one]), 0.0)
        out += stage.update(signal(f"i{k}", 1, [closed]), 0.0)
    return out


def test_an_alert_beyond_the_budget_is_info_and_says_so() -> None:
    alerts = told(ServiceStage("s", 15.0), 3)
    last = list(check_revisions(alerts).values())
    assert [alert.severity for alert in last] == ["warning", "warning", "info"]
    assert last[2].summary.endswith(
        "(told as info, not as warning: the slow path has had its 4 pages a month)"
    )


def test_an_alert_that_was_held_back_pages_once_its_effect_is_large() -> None:
    stage = ServiceStage("s", 15.0)
    small = episode("e", kind="host_gap", impact=SMALL)
    large = msgspec.structs.replace(small, impact=LARGE, updated_s=small.updated_s + 1)
    stage = ServiceStage.restore("s", 15.0, _spent(stage))
    held = stage.update(signal("i", 0, [small]), 0.0)
    assert [alert.severity for alert in held] == ["info"]
    assert [alert.severity for alert in stage.update(signal("i", 1, [large]), 0.0)] == ["warning"]


def _spent(stage: ServiceStage) -> bytes:
    """The stage's state with nothing left in its budget."""
    state = msgspec.msgpack.decode(stage.dump())
    state["budget"] = {"left": 0.0, "slow_left": 0.0, "at_s": 1e12}
    return msgspec.msgpack.encode(state)
