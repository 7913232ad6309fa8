"""What instances are told to sample: leases in event time, a limit to how many are raised, and nothing that hangs."""

from __future__ import annotations

import itertools
from typing import Any

import msgspec
from hypothesis import given
from hypothesis import strategies as st
from service_signals import T0_S, episode, signal

from layerwatch.detectors.sampling_policy import (
    CANARY_S,
    HOLD_S,
    LEASE_S,
    RECOVERY_S,
    SamplingPolicy,
)
from layerwatch.detectors.suspicion import KIND_OF
from layerwatch.schemas.control import Control
from layerwatch.schemas.signals import Signal


def orders(policy: SamplingPolicy, signals: list[Signal], mode: Any = "auto") -> list[Control]:
    return [order for one in signals for order in policy.update(one, mode)]


def tiers(policy: SamplingPolicy, signals: list[Signal], mode: Any = "auto") -> list[str]:
    """In force after each signal, as the instance would have it."""
    held: dict[str, Control] = {}
    out: list[str] = []
    for one in signals:
        for order in policy.update(one, mode):
            held[order.instance] = order
        order_now = held.get(one.instance)
        in_force = order_now is not None and one.time_s < order_now.expires_s
        out.append(order_now.tier if order_now is not None and in_force else "baseline")
    return out


def seconds(first: int, count: int, instance: str = "a", **fields: Any) -> list[Signal]:
    return [signal(instance, n, **fields) for n in range(first, first + count)]


def test_a_healthy_instance_is_told_nothing() -> None:
    assert orders(SamplingPolicy(), seconds(0, 100)) == []


def test_suspicion_raises_at_once_and_evidence_goes_on_for_a_while() -> None:
    policy = SamplingPolicy()
    raised = tiers(policy, [*seconds(0, 5), *seconds(5, 3, suspected=["layer_slice"]), *seconds(8, 40)])
    assert raised[:5] == ["baseline"] * 5
    assert raised[5:] == ["evidence"] * (2 + int(HOLD_S)) + ["baseline"] * (41 - int(HOLD_S))


def test_an_order_is_a_lease_that_is_renewed_before_it_ends() -> None:
    given_orders = orders(SamplingPolicy(), seconds(0, 60, suspected=["layer_slice"]))
    assert {order.expires_s - order.issued_s for order in given_orders} == {LEASE_S}
    assert all(later.issued_s < earlier.expires_s - 5 for earlier, later in itertools.pairwise(given_orders))
    assert 10 <= len(given_orders) <= 15


def test_after_an_alert_evidence_goes_on_for_longer() -> None:
    alert = [episode()]
    told = [signal("a", n, alert, suspected=["episode"]) for n in range(5)]
    raised = tiers(SamplingPolicy(), [*told, *seconds(5, 50)])
    assert raised.index("baseline") == 4 + int(RECOVERY_S)


def test_a_new_build_is_a_canary_until_its_baselines_stand_or_never_do() -> None:
    policy = SamplingPolicy()
    raised = tiers(policy, [*seconds(0, 20, settled=False), *seconds(20, 5)])
    assert raised == ["canary"] * 20 + ["baseline"] * 5
    assert tiers(policy, seconds(25, 3, settled=False, engine="sha256:2")) == ["canary"] * 3
    never = tiers(SamplingPolicy(), seconds(0, int(CANARY_S) + 50, settled=False))
    assert never[int(CANARY_S) - 1] == "canary"
    assert set(never[int(CANARY_S) + 1 :]) == {"baseline"}


def test_two_kinds_of_evidence_sample_everything_until_an_alert_tells_of_it() -> None:
    both = ["layer_slice", "gpu_activity"]
    assert {KIND_OF[channel] for channel in both} == {"layers", "counters"}
    raised = tiers(SamplingPolicy(), seconds(0, 25, suspected=both))
    assert raised == ["canary"] * 10 + ["evidence"] * 15
    policy = SamplingPolicy()
    told = [signal("a", n, [episode()], suspected=both) for n in range(3, 6)]
    assert tiers(policy, [*seconds(0, 3, suspected=both), *told]) == ["canary"] * 3 + ["evidence"] * 3
    same_kind = tiers(SamplingPolicy(), seconds(0, 5, suspected=["spikes", "end_to_end_tail"]))
    assert same_kind == ["evidence"] * 5


def test_a_goodbye_ends_it_and_another_boot_begins_anew() -> None:
    policy = SamplingPolicy()
    orders(policy, seconds(0, 3, suspected=["layer_slice"]))
    assert orders(policy, [signal("a", 3, state="leaving")]) == []
    assert policy.instances == {}
    assert orders(policy, [signal("a", 4, boot_ms=2)]) == []


def test_people_can_hold_it_down_or_switch_it_off() -> None:
    suspected = seconds(0, 30, suspected=["layer_slice"])
    assert orders(SamplingPolicy(), suspected, "baseline") == []
    off = orders(SamplingPolicy(), suspected, "off")
    assert {order.tier for order in off} == {"off"}
    assert off[-1].issued_s > T0_S + 20  # renewed


steps = st.lists(
    st.tuples(
        st.sampled_from("abcdefghij"),
        st.sampled_from([[], [], ["layer_slice"], ["gpu_activity", "layers_common"], ["spikes"]]),
        st.booleans(),  # settled
        st.sampled_from(["", "", "", "boot", "leave", "alert"]),
        st.integers(1, 20),  # s since the last signal of any instance
    ),
    max_size=120,
)


@given(steps)
def test_so_many_at_most_are_raised_at_once_every_order_ends_and_a_restart_changes_nothing(
    history: list[tuple[str, list[str], bool, str, int]],
) -> None:
    policy = SamplingPolicy()
    boots: dict[str, int] = {}
    now_s = T0_S
    most_known = 0
    for sequence, (name, suspected, settled, act, later_s) in enumerate(history):
        now_s += later_s
        boots[name] = boots.get(name, 1) + (act == "boot")
        one = signal(
            name,
            sequence,
            [episode()] if act == "alert" else [],
            time_s=now_s,
            boot_ms=boots[name],
            suspected=suspected,
            settled=settled,
            state="leaving" if act == "leave" else "serving",
        )
        restarted = msgspec.msgpack.decode(msgspec.msgpack.encode(policy), type=SamplingPolicy)
        made = policy.update(one)
        assert made == restarted.update(one)
        assert restarted == policy
        assert len(made) <= 1
        for order in made:
            assert (order.instance, order.issued_s) == (name, now_s)
            assert order.expires_s == now_s + LEASE_S
        for tier, share, least in (("canary", 1 / 8, 1), ("evidence", 1 / 4, 2)):
            raised = [i for i, own in policy.instances.items() if own.tier == tier]
            in_force = [i for i in raised if now_s - policy.instances[i].told_s < LEASE_S]
            most_known = max(most_known, len(policy.instances))
            assert len(in_force) <= max(least, int(share * most_known))
