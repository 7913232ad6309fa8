"""Random histories of alerts, orders, restarts and time: what must hold whatever happens."""

from __future__ import annotations

from typing import Any

import hypothesis.strategies as st
import msgspec
from deciding import POLICY, SERVICE, Reader, alert, override, resolved, rules
from history_records import START_S
from hypothesis import settings
from hypothesis.stateful import Bundle, RuleBasedStateMachine, consumes, initialize, invariant, rule

from layerwatch.detectors.deciding.state import Standing
from layerwatch.detectors.decision_stage import DecisionStage, Said
from layerwatch.schemas.alerts import CAUSES, KINDS, Alert
from layerwatch.schemas.decisions import ACTIONS, DOMAINS, MODES, Decision
from layerwatch.schemas.times import unix_s

#: Tighter than what is shipped, so that short histories reach its limits.
TIGHT = msgspec.structs.replace(
    POLICY,
    actions_per_hour=3,
    actions={
        name: msgspec.structs.replace(rule, cooldown_s=100.0 if rule.counts else 0.0)
        for name, rule in POLICY.actions.items()
    },
)
INSTANCES = ["i0", "i1", "i2", "i3"]
FLEET = len(INSTANCES)


class Histories(RuleBasedStateMachine):
    """One stage that is restarted and looked at whenever it pleases, beside a twin that hears the events alone."""

    alerts: Bundle[str] = Bundle("alerts")

    @initialize(mode=st.sampled_from(MODES), share=st.sampled_from([0.25, 0.5, 1.0]))
    def begin(self, mode: str, share: float) -> None:
        self.own_rules = rules(mode, policy=TIGHT, max_share=share, standby="v1", startup_s=60.0)
        self.stage = DecisionStage(SERVICE, self.own_rules)
        self.twin = DecisionStage(SERVICE, self.own_rules)
        self.reader, self.twins_reader = Reader(TIGHT), Reader(TIGHT)
        self.ahead: list[Decision] = []  # said by the stage, and not yet by the twin
        self.kept: dict[str, dict[str, Any]] = {}
        self.clock_s = 0.0
        self.told: dict[str, list[Alert]] = {}
        self.standing = Standing()
        self.numbers = iter(range(1_000_000))

    def compare(self, mine: Said, its: Said) -> None:
        """Both have heard the same: whatever was looked at in between, they must have said the same."""
        self.reader.read(mine.decisions)
        self.twins_reader.read(its.decisions)
        assert [*self.ahead, *mine.decisions] == its.decisions
        self.ahead = []

    def hear(self, made: Alert) -> None:
        self.told.setdefault(made.id, []).append(made)
        self.compare(self.stage.update(made), self.twin.update(made))

    @rule(
        target=alerts,
        cause=st.sampled_from(CAUSES),
        kind=st.sampled_from(["layer_latency", "layer_latency", "divergence", *KINDS]),
        severity=st.sampled_from(["info", "warning", "warning", "critical"]),
        instances=st.sets(st.sampled_from(INSTANCES), min_size=1),
        strong=st.booleans(),
        p99=st.sampled_from([1.0, 2.0, 8.0]),
    )
    def a_new_alert(
        self, cause: str, kind: str, severity: str, instances: set[str], strong: bool, p99: float
    ) -> Any:
        id = f"a{next(self.numbers)}"
        more: dict[str, Any] = {} if strong else {"detectors": ["clipping"]}
        self.kept[id] = {
            "cause": cause,
            "kind": kind,
            "severity": severity,
            "instances": sorted(instances),
            "p99": p99,
            "began_s": self.clock_s - 1,
            "fleet": FLEET,
            **more,
        }
        self.hear(alert(id, 1, at_s=self.clock_s, **self.kept[id]))
        return id

    @rule(id=alerts, p99=st.sampled_from([1.0, 2.0, 8.0]), severity=st.sampled_from(["warning", "critical"]))
    def an_alert_goes_on(self, id: str, p99: float, severity: str) -> None:
        self.kept[id] |= {"p99": p99, "severity": severity}
        self.hear(alert(id, self.told[id][-1].revision + 1, at_s=self.clock_s, **self.kept[id]))

    @rule(id=consumes(alerts))
    def an_alert_ends(self, id: str) -> None:
        self.hear(resolved(id, self.told[id][-1].revision + 1, at_s=self.clock_s, **self.kept[id]))

    @rule()
    def runtimes_obey(self) -> None:
        """Another build serves where we asked for it: told as a fact."""
        switched = sorted(
            {
                d.target.instance
                for d in self.reader.active.values()
                if d.action in ("failover", "fallback_precision") and d.target.instance != "*"
            }
        )
        if switched:
            id = f"s{next(self.numbers)}"
            told = {"kind": "engine_regression", "severity": "info", "p99": 1.0}
            self.hear(
                alert(
                    id,
                    1,
                    "engine_change",
                    self.clock_s,
                    instances=switched,
                    began_s=self.clock_s,
                    fleet=FLEET,
                    **told,
                )
            )

    @rule(id=alerts, which=st.integers(0, 9))
    def an_alert_is_repeated(self, id: str, which: int) -> None:
        before = self.stage.dump()
        told = self.told[id]
        assert self.stage.update(told[which % len(told)]) == Said([], [])
        assert self.stage.dump() == before

    @rule(passed_s=st.sampled_from([0.5, 5.0, 9.0, 31.0, 61.0, 125.0, 601.0, 3700.0]))
    def time_passes(self, passed_s: float) -> None:
        self.clock_s += passed_s

    @rule()
    def somebody_looks(self) -> None:
        said = self.stage.advance(START_S + self.clock_s)
        self.reader.read(said.decisions)
        self.ahead += said.decisions

    @rule()
    def the_process_restarts(self) -> None:
        self.stage = DecisionStage.restore(SERVICE, self.own_rules, self.stage.dump())

    def order(self, standing: Standing) -> None:
        at_s = START_S + self.clock_s
        self.compare(self.stage.advance(at_s), self.twin.advance(at_s))
        self.compare(self.stage.order(standing), self.twin.order(standing))
        self.standing = standing
        before = self.stage.dump()
        assert self.stage.order(standing) == Said([], [])
        assert self.stage.dump() == before

    @rule(
        what=st.sampled_from(["off", "on", "on", "override", "override", "take back", "mark"]),
        action=st.sampled_from([a for a in ACTIONS if a != "restore"]),
        domain=st.sampled_from(DOMAINS),
        instance=st.sampled_from(["*", *INSTANCES]),
        for_s=st.sampled_from([20.0, 400.0, 2000.0]),
    )
    def people_order(self, what: str, action: str, domain: str, instance: str, for_s: float) -> None:
        now_s, standing = START_S + self.clock_s, self.standing
        changes: dict[str, Any] = {}
        if what in ("off", "on"):
            changes["killed"] = "enough (me)" if what == "off" else None
        elif what == "mark":
            changes["marks"] = [*standing.marks, now_s]
        elif what == "take back":
            changes["overrides"] = []
        else:
            order = f"o-{next(self.numbers)}"
            made = override(action, domain, order=order, instance=instance, until_s=now_s + for_s)
            changes["overrides"] = [*standing.overrides, made]
        self.order(msgspec.structs.replace(standing, **changes))

    @invariant()
    def nothing_holds_that_is_not_ours_to_decide(self) -> None:
        if not hasattr(self, "stage"):
            return
        assert sorted(self.reader.active) == sorted(d.target.key for d in self.stage.active)
        for decision in self.reader.active.values():
            assert decision.mode == self.own_rules.mode
            assert decision.order is not None or not self.is_taken_over(decision)
        if self.standing.killed:
            assert self.reader.active == {}

    def is_taken_over(self, decision: Decision) -> bool:
        """Whether an order of a person stands on its target."""
        return any(
            order.domain == decision.target.domain
            and order.instance in ("*", decision.target.instance)
            and order.until_s > START_S + self.clock_s
            for order in self.standing.overrides
        )

    @invariant()
    def no_more_of_the_fleet_is_away_than_may_be(self) -> None:
        if not hasattr(self, "stage"):
            return
        away = {
            d.target.instance
            for d in self.reader.active.values()
            if POLICY.actions[d.action].per_instance and d.order is None and d.action != "restore"
        }
        assert len(away) <= max(1, int(self.own_rules.max_share * FLEET))

    def teardown(self) -> None:
        """Nobody says anything any more: everything ends, by its lease at the latest or with the order."""
        if not hasattr(self, "stage"):
            return
        ends = [START_S + self.clock_s, *(o.until_s for o in self.standing.overrides)]
        at_s = max(ends) + 20 * POLICY.actions["failover"].hold_s
        self.reader.read(self.stage.advance(at_s).decisions)
        assert self.reader.active == {}
        assert self.stage.active == []
        assert self.stage.idle or self.standing.overrides
        assert all(unix_s(d.expires_at) <= at_s for d in self.reader.issued)
        assert self.stage.advance(at_s + 1e6) == Said([], [])


TestHistories = Histories.TestCase
TestHistories.settings = settings(max_examples=150, stateful_step_count=40, deadline=None)
