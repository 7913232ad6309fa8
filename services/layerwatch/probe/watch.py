"""All that a probe has opened: its folder, its page, the lanes of its threads; and what becomes of them at a fork."""

from __future__ import annotations

import logging
import os
import secrets
import threading
import weakref
from collections import deque
from pathlib import Path
from typing import Any

from layerwatch.probe.engine_facts import EngineFacts, engine_facts
from layerwatch.probe.folder import RuntimeFolder, remove_abandoned
from layerwatch.probe.interfaces import Cuda, Device, Engine
from layerwatch.probe.lane import Lane
from layerwatch.probe.page import Page
from layerwatch.probe.ring_writer import RingWriter
from layerwatch.probe.sampling import Sampling
from layerwatch.probe.sender import Sender
from layerwatch.schemas.control_page import LEAVING, SERVING, State
from layerwatch.schemas.runtimes import CONTROL_NAME, MAX_RINGS, SOCKET_NAME, TOKEN_BYTES, Runtime

_log = logging.getLogger(__name__)


class Watch:
    """All that a probe has opened. Raises whatever fails while it is made."""

    def __init__(self, engine: Engine, about: dict[str, Any], options: dict[str, Any]) -> None:
        trt, cuda = options["trt"], options["cuda"]
        device = cuda.device()
        facts = engine_facts(
            engine, trt, service=about["service"], gpu_model=device.model, plan=options["plan"]
        )
        if options["shares_profiles"]:
            facts = facts._replace(shares_profiles=True)
        root = Path(options["folder"])
        token = secrets.token_bytes(TOKEN_BYTES)
        self.off = ""
        self.lanes: list[Lane] = []
        self.free: deque[Lane] = deque()
        self._making = threading.Lock()
        self._cuda: Cuda = cuda
        self._waits: bool = options["waits"]
        self._token = token
        self._folder = RuntimeFolder(root, token)
        try:
            self._open(engine, facts, about, device, options)
        except BaseException:
            self._folder.discard()
            raise
        remove_abandoned(root)

    def _open(
        self,
        engine: Engine,
        facts: EngineFacts,
        about: dict[str, Any],
        device: Device,
        options: dict[str, Any],
    ) -> None:
        self._page = Page(self._folder.path / CONTROL_NAME, self._token, options["rate"])
        self._folder.write_manifest(facts.manifest)
        self.sampling = Sampling(
            engine,
            options["trt"],
            self._cuda,
            facts,
            self._page,
            Sender(str(Path(options["folder"]) / SOCKET_NAME)),
            self._token,
            self._folder.write_manifest,
        )
        self._page.tell(State(SERVING, 0, 0))
        self._folder.publish(
            Runtime(
                **about,
                engine=facts.manifest.engine,
                token=self._token.hex(),
                gpu=device.uuid,
                gpu_model=device.model,
                tensorrt=facts.manifest.tensorrt,
                inputs=facts.inputs,
                rate=options["rate"],
            )
        )

    def lane(self) -> Lane | None:
        """For a thread: one that another thread has left, or a new one; None where there are too many."""
        try:
            return self.free.popleft()
        except IndexError:
            pass
        with self._making:  # held for the making of one file, at a thread's first execution
            if len(self.lanes) >= MAX_RINGS:
                return None
            ring = RingWriter(self._folder.path, len(self.lanes), self._token)
            made = Lane(ring, self.sampling, self._cuda, waits=self._waits)
            self.lanes.append(made)
            self._page.tell(State(SERVING, len(self.lanes), self.sampling.device_bytes))
            return made

    def close(self, why: str) -> None:
        """Say goodbye. Threads that are in the middle of an execution end it in peace."""
        if self.off:
            return
        self.off = why
        try:
            for lane in self.lanes:
                lane.closed = True
                lane.forgo()
                if lane in self.free:
                    lane.harvest()
            self.sampling.close()
            self._page.tell(State(LEAVING, len(self.lanes), 0))
        except Exception:  # noqa: BLE001 - the process is ending, or goes on without us
            _log.debug("closing the probe", exc_info=True)
        self._folder.let_go()

    def forked(self) -> None:
        """In a child: everything belongs to the parent, and CUDA does not live on."""
        self.off = "forked"
        self._folder.let_go()
        for lane in self.lanes:
            lane.detach()


class Holder:
    """A thread's lane; when the thread ends, another one may have it."""

    __slots__ = ("_free", "lane")

    def __init__(self, lane: Lane | None, free: deque[Lane]) -> None:
        self.lane = lane
        self._free = free

    def __del__(self) -> None:
        if self.lane is not None:
            self.lane.retire()
            self._free.append(self.lane)


_watches: weakref.WeakSet[Watch] = weakref.WeakSet()
_fork_registered = False


def follow_forks(watch: Watch) -> None:
    """Let a watch know when it finds itself in a child."""
    global _fork_registered
    _watches.add(watch)
    if not _fork_registered:
        _fork_registered = True
        os.register_at_fork(after_in_child=_after_fork)


def _after_fork() -> None:
    for watch in list(_watches):
        watch.forked()
