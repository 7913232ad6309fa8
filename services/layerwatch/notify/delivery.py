"""One thread a lane: sends what its outbox holds, with patience for the other side."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable
from typing import TypeVar

import httpx
import stamina
import stamina.instrumentation

from layerwatch.notify.channels import Directory, Lane, judge, receipt
from layerwatch.notify.metrics import Metrics
from layerwatch.notify.outbox import Letter, Outbox
from layerwatch.notify.redaction import Redaction
from layerwatch.notify.request import Answer, Later, Misconfigured, Refused, Request, Undelivered

_log = logging.getLogger(__name__)

T = TypeVar("T")

# Its own lines would show what a failed call was given.
stamina.instrumentation.set_on_retry_hooks([])

_TIMEOUT_S = 10.0
#: Tries in a row for one letter, then others of the lane come first.
_TRIES, _FIRST_WAIT_S, _LONGEST_WAIT_S = 4, 1.0, 15.0
#: Between two rounds of tries for a letter: the first, doubled up to the last (s).
_ROUND_S, _ROUND_MOST_S = 15.0, 300.0
#: Between two looks whether a person has mended a channel (s).
_MENDED_S = 15.0
#: A page that is a day late helps nobody (s).
_OLDEST_S = 86_400.0
#: A channel on which nothing has arrived for so long counts as dead (s).
DEAD_S = 60.0
#: An incident that is over is sent again for so long, as Alertmanager's clients are to do (s).
_ENDED_RESENT_S = 300.0


class Delivery:
    """Sends the letters of one lane from `start()` until the process ends.

    `alive()`: whether alerts are being read. `ended()` is called when it cannot go on, since the outbox cannot be used.
    """

    def __init__(
        self,
        lane: Lane,
        directory: Directory,
        outbox: Outbox,
        metrics: Metrics,
        redaction: Redaction,
        alive: Callable[[], bool],
        ended: Callable[[], None],
    ) -> None:
        self.lane = lane
        self._directory = directory
        self._outbox = outbox
        self._metrics = metrics
        self._redaction = redaction
        self._alive = alive
        self._ended = ended
        self._client = httpx.Client(timeout=_TIMEOUT_S)
        self._wake = threading.Event()
        self._failing_since_s: float | None = None
        self._why = ""
        self._resent_s = float("-inf")
        # A daemon: what is on its way when the process ends is sent again at the next start.
        self._thread = threading.Thread(target=self._run, name=f"channel {lane.name}", daemon=True)

    def start(self) -> None:
        self._thread.start()

    def wake(self) -> None:
        """There may be something to send."""
        self._wake.set()

    @property
    def going(self) -> bool:
        """Whether its thread runs."""
        return self._thread.is_alive()

    def problem(self) -> str | None:
        """What is wrong with this lane; None while all is well, or it is only a hitch."""
        since_s = self._failing_since_s
        if not self.going:
            return f"channel {self.lane.name}: its thread has ended, see the log"
        if since_s is None or time.monotonic() - since_s < DEAD_S:
            return None
        return f"channel {self.lane.name}: nothing has arrived for {time.monotonic() - since_s:.0f} s: {self._why}"

    def _run(self) -> None:
        try:
            while True:
                self._wake.clear()
                letter = self._outbox.next_letter(self.lane.name, time.time())
                if letter is not None:
                    self._deliver(letter)
                elif not self._resend():
                    self._wake.wait(1.0)
        except Exception:  # noqa: BLE001 - whatever it is, the process must not go on without it
            _log.exception("%s: cannot go on", self.lane.name)
            self._ended()

    def _deliver(self, letter: Letter) -> None:
        try:
            if time.time() - letter.queued_s > _OLDEST_S:
                raise Refused(f"nobody took it within {_OLDEST_S / 3600:.0f} h")
            taken = self._patiently(lambda: self._send(letter))
        except Refused as error:
            self._outbox.bury(letter, str(error), time.time())
            _log.error("%s: notice %s is a dead letter: %s", self.lane.name, letter.notice.id, error)
        except Misconfigured:
            time.sleep(_MENDED_S)  # all the lane's letters would fare like this one
        except Later:
            wait_s = min(_ROUND_S * 2**letter.rounds, _ROUND_MOST_S)
            self._outbox.postpone(letter, time.time() + wait_s)
        else:
            self._outbox.sent(letter, taken, time.time())
            self._metrics.sent.labels(self.lane.name, letter.notice.event).inc()
            self._metrics.last_sent.labels(self.lane.name).set_to_current_time()
            _log.info("%s: told %s of %s", self.lane.name, letter.notice.event, letter.notice.id)

    def _send(self, letter: Letter) -> str | None:
        known = self._outbox.receipt(letter)
        secret = self._secret()
        try:
            requests = self._directory.requests(self.lane, secret, letter.notice, known, time.time())
        except Exception as error:
            _log.exception("%s: %s cannot be put into words", self.lane.name, letter.notice.id)
            raise Refused(f"a defect of layerwatch: {type(error).__name__}") from error
        answers = [self._post(request) for request in requests]
        try:
            return known or receipt(self.lane, answers[0])
        except (KeyError, TypeError):  # it has arrived all the same
            _log.warning(
                "%s: the answer lacks what later notices of %s need", self.lane.name, letter.notice.incident
            )
            return None

    def _resend(self) -> bool:
        """Whether it was time to."""
        now_s = time.monotonic()
        if self.lane.channel.kind != "alertmanager" or now_s - self._resent_s < self._directory.resend_s:
            return False
        self._resent_s = now_s
        notices = self._outbox.current(time.time() - _ENDED_RESENT_S)
        alive = self._alive()
        if not (notices or alive):
            return False

        def send() -> None:
            self._post(self._directory.resend(self.lane, self._secret(), notices, alive, time.time()))

        try:
            self._patiently(send)
        except Undelivered:
            return False  # counted; what fires is sent again next time
        return True

    def _patiently(self, send: Callable[[], T]) -> T:
        """Several tries, as long as waiting may help; as the other side asks, where it does."""
        for attempt in stamina.retry_context(
            on=_patience,
            attempts=_TRIES,
            timeout=None,
            wait_initial=_FIRST_WAIT_S,
            wait_max=_LONGEST_WAIT_S,
        ):
            with attempt:
                try:
                    done = send()
                except Undelivered as error:
                    self._failed(error)
                    raise
        self._recovered()
        return done

    def _secret(self) -> str | None:
        secret = self.lane.secret()
        if secret is not None:
            self._redaction.learn(secret)
        return secret

    def _post(self, request: Request) -> Answer:
        try:
            reply = self._client.post(request.url, json=request.body, headers=dict(request.headers))
        except httpx.HTTPError as error:
            raise Later(f"no answer ({type(error).__name__})") from None  # its text may hold the URL
        except httpx.InvalidURL:
            raise Misconfigured("its URL cannot be used: mend it in services.toml") from None
        answer = Answer(
            reply.status_code, reply.headers, self._redaction.clean(reply.text[:2000]), _json(reply)
        )
        judge(self.lane, answer)
        return answer

    def _failed(self, error: Undelivered) -> None:
        self._metrics.failed.labels(self.lane.name, type(error).__name__.lower()).inc()
        if isinstance(error, Refused):
            self._recovered()  # the lane is well
            return
        if str(error) != self._why or self._failing_since_s is None:
            _log.warning("%s: not delivered, trying again: %s", self.lane.name, error)
        self._why = str(error)
        self._metrics.up.labels(self.lane.name).set(0)
        if self._failing_since_s is None:
            # A wrong key does not pass by itself: it is told of at once.
            self._failing_since_s = time.monotonic() - (DEAD_S if isinstance(error, Misconfigured) else 0.0)

    def _recovered(self) -> None:
        if self._failing_since_s is not None:
            _log.info("%s: delivers again", self.lane.name)
        self._failing_since_s = None
        self._metrics.up.labels(self.lane.name).set(1)


def _patience(error: Exception) -> bool | float:
    """Whether to try again at once with growing pauses, or after so many seconds."""
    if not isinstance(error, Later):
        return False
    return True if error.after_s is None else error.after_s


def _json(reply: httpx.Response) -> object:
    try:
        return reply.json()
    except ValueError:
        return None
