"""One runtime as the agent sees it: its folder, its rings, its page, and what it has not been told of yet."""

from __future__ import annotations

import contextlib
import fcntl
import os
import shutil
from collections import Counter
from pathlib import Path

from layerwatch.agent.cost import Cost
from layerwatch.agent.inbox import Inbox
from layerwatch.agent.ring_reader import RingReader
from layerwatch.agent.window import Columns, Row, batch, columns, split
from layerwatch.schemas.codec import Reader
from layerwatch.schemas.control_page import (
    LEAVING,
    NOTES_OFFSET,
    PAGE_BYTES,
    ROUTE_BYTES,
    ROUTE_OFFSET,
    SAMPLING_OFFSET,
    Notes,
    Route,
    Sampling,
    decode_notes,
    decode_page,
    decode_route,
    decode_sampling,
    decode_state,
    encode_notes,
    encode_route,
    encode_sampling,
)
from layerwatch.schemas.engines import Manifest
from layerwatch.schemas.errors import InvalidRecord
from layerwatch.schemas.profiles import ProfileBatch
from layerwatch.schemas.ring import KeyedExecution
from layerwatch.schemas.runtimes import (
    ABOUT_NAME,
    ALIVE_NAME,
    CONTROL_NAME,
    MANIFEST_NAME,
    MAX_RINGS,
    RUNTIME_READER,
    ring_name,
)

_MANIFESTS = Reader(Manifest)

#: A thread notes the time and then writes its record; so long it may be held up in between without a mark (s).
_HOLD_BACK_S = 0.05
#: Executions that wait for their message; beyond, the oldest are dropped and counted.
_MAX_WAITING = 100_000


#: No decision holds: the runtime is on its primary engine.
NOWHERE = Route("none")


class WatchedRuntime:
    """Raises OSError and InvalidRecord where the folder cannot be read."""

    def __init__(self, folder: Path, now_s: float) -> None:
        self.about = RUNTIME_READER.decode((folder / ABOUT_NAME).read_bytes())
        self.folder = folder
        self.token = bytes.fromhex(self.about.token)
        self.cost = Cost()
        self.counters: Counter[str] = Counter()  # of its rings, since it began
        self.dropped: Counter[str] = Counter()  # by the agent, by reason
        self.executions = self.samples = 0
        self.executions_per_s = 0.0
        self.order: Sampling | None = None
        self.may_order = True
        self._rings: dict[int, RingReader] = {}
        self._rows: list[Row] = []
        self._manifest: Manifest | None = None
        self._manifest_mtime_ns = -1
        page = (folder / CONTROL_NAME).read_bytes()[:PAGE_BYTES]
        if decode_page(page) != self.token:
            raise InvalidRecord("malformed", f"the page in {folder} belongs to another runtime")
        notes = decode_notes(page)
        found = decode_sampling(page[SAMPLING_OFFSET : SAMPLING_OFFSET + 64])
        self._generation = found[0] if found else 0
        shown = decode_route(page[ROUTE_OFFSET : ROUTE_OFFSET + ROUTE_BYTES])
        self._route_generation, self.route = shown or (0, NOWHERE)
        # Where notes cannot be kept, another agent's messages must still come after this one's.
        since_boot_ms = max(0, int(now_s * 1000) - self.about.boot_ms)
        self._sequence = max(notes.next_sequence, 0 if self._write(b"", NOTES_OFFSET) else since_boot_ms)
        self.told_until_s = notes.told_until_s or min(self.about.boot_ms / 1000, now_s)
        self._drained_s = now_s

    @property
    def waiting(self) -> int:
        """Executions that wait for their message."""
        return len(self._rows)

    def new_manifest(self) -> Manifest | None:
        """The manifest when it is new or has changed."""
        with contextlib.suppress(FileNotFoundError):
            changed_ns = (self.folder / MANIFEST_NAME).stat().st_mtime_ns
            if changed_ns != self._manifest_mtime_ns:
                found = _MANIFESTS.decode((self.folder / MANIFEST_NAME).read_bytes())
                self._manifest, self._manifest_mtime_ns = found, changed_ns
                return found
        return None

    def has_ended(self) -> bool:
        """Whether nobody holds its lock any more."""
        try:
            fd = os.open(self.folder / ALIVE_NAME, os.O_RDONLY | os.O_CLOEXEC)
        except FileNotFoundError:
            return True
        try:
            fcntl.flock(fd, fcntl.LOCK_SH | fcntl.LOCK_NB)
        except BlockingIOError:
            return False
        finally:
            os.close(fd)
        return True

    def device_bytes(self) -> int:
        """Device memory that its twins have taken."""
        with contextlib.suppress(OSError):
            return decode_state((self.folder / CONTROL_NAME).read_bytes()).device_bytes
        return 0

    def said_goodbye(self) -> bool:
        with contextlib.suppress(OSError):
            return decode_state((self.folder / CONTROL_NAME).read_bytes()).state == LEAVING
        return False

    def poll(self, now_s: float) -> bool:
        """Take what the rings have; True when they had more than is taken at a time."""
        self._open_rings()
        more = False
        new: list[KeyedExecution] = []
        known_until_s = now_s
        for ring in self._rings.values():
            read = ring.poll()
            if read.more and read.executions:
                more = True
                known_until_s = min(known_until_s, read.executions[-1].end_unix_ns * 1e-9)
            new += read.executions
            self._rows += [Row(e.end_unix_ns, ring.number, e) for e in read.executions]
        self._count(new)
        if len(self._rows) > _MAX_WAITING:
            self._rows.sort()
            self.dropped["overflow"] += len(self._rows) - _MAX_WAITING
            del self._rows[:-_MAX_WAITING]
        self._drained_s = max(self._drained_s, known_until_s)
        return more

    def messages(self, inbox: Inbox, *, ended: str = "") -> list[ProfileBatch]:
        """All that ended a moment ago or earlier, told for good; at least one message, which is the heartbeat.

        `ended` is the state of a runtime that is gone (leaving, crashed): then nothing is held back.
        """
        until_s = max(self._drained_s - (0.0 if ended else _HOLD_BACK_S), self.told_until_s)
        self._rows.sort()
        count = len(self._rows)
        if not ended:  # rows are sorted: those at the end stay
            while count and until_s * 1e9 < self._rows[count - 1].end_ns <= (until_s + 1) * 1e9:
                count -= 1
        told, self._rows = self._rows[:count], self._rows[count:]
        counts = {p.profile: len(p.layers) for p in self._manifest.profiles} if self._manifest else {}
        parts = split(told, max(counts.values(), default=0))
        made = []
        for number, rows in enumerate(parts):
            last = number == len(parts) - 1
            end_s = until_s if last else min(max(rows[-1].end_ns * 1e-9, self.told_until_s), until_s)
            found = columns(
                rows,
                self.about.inputs,
                counts,
                lambda ring, position: inbox.take(self.token, ring, position),
                self.told_until_s,
                end_s,
            )
            made.append(self._message(found, end_s, (ended if last else "") or self._state(told)))
        self._keep_notes()
        return made

    def write_order(self, sampling: Sampling) -> None:
        """Tell the runtime what to sample; `may_order` is False where its page cannot be written."""
        self._generation = self._generation % (2**32 - 1) + 1
        self.may_order = self._write(encode_sampling(self._generation, sampling), SAMPLING_OFFSET)
        if self.may_order:
            self.order = sampling

    def show_route(self, route: Route) -> None:
        """Tell the runtime which engine to use, where that is news."""
        if route == self.route:
            return
        generation = self._route_generation % (2**32 - 1) + 1
        if self._write(encode_route(generation, route), ROUTE_OFFSET):
            self._route_generation, self.route = generation, route

    def close(self) -> None:
        for ring in self._rings.values():
            ring.close()
        self._rings.clear()

    def remove(self) -> None:
        """The runtime is gone, and all is told."""
        self.close()
        shutil.rmtree(self.folder, ignore_errors=True)

    def lost(self) -> Counter[str]:
        """Executions that no message has told of, by reason."""
        rings = self._rings.values()
        found = Counter(self.dropped)
        found["overwritten"] += sum(ring.lost for ring in rings)
        found["torn"] += sum(ring.torn for ring in rings)
        found["untimed"] += self.counters["untimed"]
        return found

    def _message(self, found: Columns, end_s: float, state: str) -> ProfileBatch:
        self.samples += found.sampled
        self.dropped["layers"] += found.unmatched
        lost = self.lost()
        made = batch(
            self.about,
            self._sequence,
            self.told_until_s,
            end_s,
            state,
            found.fields
            | {
                "tier": self.order.tier if self.order else "baseline",
                "rate": self.order.rate if self.order else self.about.rate,
                "dropped": lost.total() - lost["layers"],
            },
        )
        self._sequence += 1
        self.told_until_s = end_s
        return made

    def _state(self, told: list[Row]) -> str:
        return "serving" if told else "idle"

    def _count(self, new: list[KeyedExecution]) -> None:
        before = self.counters
        self.counters = Counter()
        for ring in self._rings.values():
            self.counters.update(ring.counters)
        self.executions += len(new)
        self.cost.fold(
            new,
            self.counters["sampled"] - before["sampled"],
            self.counters["overhead_ns"] - before["overhead_ns"],
        )

    def _open_rings(self) -> None:
        """A thread's ring appears when it first serves; numbers are without gaps."""
        while len(self._rings) < MAX_RINGS:
            path = self.folder / ring_name(len(self._rings))
            if not path.exists():
                return
            try:
                self._rings[len(self._rings)] = RingReader(path)
            except InvalidRecord:
                return  # its header is being written

    def _keep_notes(self) -> None:
        self._write(encode_notes(Notes(self._sequence, self.told_until_s)), NOTES_OFFSET)
        for ring in self._rings.values():
            ring.commit()

    def _write(self, data: bytes, offset: int) -> bool:
        try:
            fd = os.open(self.folder / CONTROL_NAME, os.O_WRONLY | os.O_CLOEXEC)
        except OSError:
            return False
        try:
            os.pwrite(fd, data, offset)
        except OSError:
            return False
        finally:
            os.close(fd)
        return True
