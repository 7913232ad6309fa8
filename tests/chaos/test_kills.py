"""Twenty kills of each process at random moments of a replay. LAYERWATCH_CHAOS_SEED repeats a run."""

from __future__ import annotations

import os
import random
import threading
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path

import pytest
from checks import assert_alerts_survived, assert_decisions_survived, assert_leases_in_order
from stack import (
    RECOVERY_S,
    RESNET,
    SHAPE_JUMP,
    Offline,
    Service,
    alerts,
    decisions,
    load,
    offline,
    patient_settings,
    running,
    send_slowly,
    wait_for_decisions,
    wait_for_ends,
    wait_for_history,
)
from waiting import wait_until

from layerwatch.broker.local import LocalBroker
from layerwatch.hosting import topics
from layerwatch.hosting.settings import Settings

pytestmark = [pytest.mark.kafka, pytest.mark.chaos, pytest.mark.timeout(1800)]

ROUNDS = int(os.environ.get("LAYERWATCH_CHAOS_ROUNDS", "20"))

#: How long a replay takes, and the latest moment of a kill (s).
REPLAY_S, LATEST_S = 3.0, 3.0


@pytest.mark.parametrize("victim", ["processor", "broker", "history", "decision"])
def test_killed_at_random_moments_nothing_is_lost_or_doubled(
    own_broker: LocalBroker, tmp_path: Path, victim: str, capsys: pytest.CaptureFixture[str]
) -> None:
    seed = int(os.environ.get("LAYERWATCH_CHAOS_SEED", random.randrange(1 << 32)))
    chance = random.Random(f"{seed}-{victim}")
    settings = patient_settings(own_broker, tmp_path)
    topics.ensure(settings)
    services = {name: Service(name, settings) for name in ("processor", "decision", "history")}

    def kill() -> None:
        (own_broker if victim == "broker" else services[victim]).kill()

    def start() -> None:
        (own_broker if victim == "broker" else services[victim]).start()

    def tell(text: str) -> None:
        with capsys.disabled():
            print(text, flush=True)

    tell(f"\n{victim}: seed {seed}")
    with running(*services.values()):
        for service in services.values():
            service.wait_ready()
        for number in range(ROUNDS):
            name = f"{victim}-{number}"
            recording = load(chance.choice((RESNET, SHAPE_JUMP)), name, f"{name}-0")
            expected = offline(recording)
            moment_s, away_s = chance.uniform(0, LATEST_S), chance.uniform(0, 2)
            with _in_background(partial(send_slowly, settings, recording, REPLAY_S)):
                time.sleep(moment_s)
                kill()
                time.sleep(away_s)
                back_s = time.monotonic()
                start()
            wait_for_ends(settings, name, expected)
            if victim == "processor":
                wait_until(
                    partial(_is_decided, settings, name, expected), "all is decided and over", RECOVERY_S
                )
            else:
                wait_for_decisions(settings, name, expected)
            took_s = time.monotonic() - back_s
            published = alerts(settings, name)
            assert_alerts_survived(expected.alerts, published)
            if victim == "processor":
                assert_leases_in_order(decisions(settings, name))
            else:
                assert_decisions_survived(expected.decisions, decisions(settings, name))
            wait_for_history(settings, name, published)
            assert all(service.running for service in services.values())
            repeats = len(published) - len({(a.id, a.revision) for a in published})
            tell(
                f"{victim} {number + 1}/{ROUNDS}: {recording.name} killed at {moment_s:.2f} s for {away_s:.2f} s; "
                f"{len({a.id for a in published})} alerts whole {took_s:.1f} s after the start, {repeats} revisions repeated"
            )


def _is_decided(settings: Settings, name: str, expected: Offline) -> bool:
    """Whether the same alerts led to decisions, and none holds any more.

    While no processor tells of alerts, the decision centre goes by the clock: a lease may end that the next alert, seconds later in
    the recording, would have kept. So it is not the same leases that are asked for.
    """
    made = decisions(settings, name)
    last = {decision.id: decision.status for decision in made}
    alerts_of = [
        {id for decision in all_of for id in decision.alerts} for all_of in (made, expected.decisions)
    ]
    return alerts_of[0] == alerts_of[1] and "active" not in last.values()


class _in_background:
    """Runs something in a thread for the length of a block, and raises what it raised."""

    def __init__(self, run: Callable[[], None]) -> None:
        self._run = run
        self._error: BaseException | None = None
        self._thread = threading.Thread(target=self._guarded)

    def _guarded(self) -> None:
        try:
            self._run()
        except Exception as error:  # noqa: BLE001 - raised where the block ends
            self._error = error

    def __enter__(self) -> None:
        self._thread.start()

    def __exit__(self, *_: object) -> None:
        self._thread.join()
        if self._error is not None:
            raise self._error
