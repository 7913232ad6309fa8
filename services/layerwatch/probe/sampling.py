"""Sampled executions: which twin runs them, and what becomes of their layers."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from layerwatch.probe.engine_facts import EngineFacts, with_names
from layerwatch.probe.interfaces import Cuda, Engine
from layerwatch.probe.page import Page
from layerwatch.probe.ring_writer import RingWriter
from layerwatch.probe.sender import Sender
from layerwatch.probe.twin import HEADROOM_BYTES, Twin, TwinRefused, recorder_class, twin_bytes
from layerwatch.probe.usual import Look
from layerwatch.schemas.engines import Manifest
from layerwatch.schemas.ring import SAMPLED
from layerwatch.schemas.samples import LayerSample, encode_sample

if TYPE_CHECKING:
    from layerwatch.probe.run import FullRun

_log = logging.getLogger(__name__)

#: A profile whose twin could not be prepared so often in a row is not tried again.
_GIVE_UP_AFTER = 8


class Sampling:
    """Shared by the threads of a runtime; nothing in it waits for another thread.

    `publish` is given the manifest when the profiler has named layers that the engine itself did not.
    """

    def __init__(
        self,
        engine: Engine,
        trt: Any,
        cuda: Cuda,
        facts: EngineFacts,
        page: Page,
        sender: Sender,
        token: bytes,
        publish: Callable[[Manifest], None],
    ) -> None:
        self.facts = facts
        self.page = page
        self.sender = sender
        self.device_bytes = 0
        self.refusals: dict[int, str] = {}
        self._engine = engine
        self._trt = trt
        self._cuda = cuda
        self._token = token
        self._publish = publish
        self._manifest = facts.manifest
        self._layers = {p.profile: len(p.layers) for p in facts.manifest.profiles}
        self._recorder = recorder_class(trt)
        self._twins: dict[int, Twin] = {}
        self._failures: dict[int, int] = {}
        self._making = threading.Lock()
        self._byte = 0

    def claim(self, run: FullRun, ring: RingWriter) -> None:
        """This execution is due: give it the twin of its profile, or count why not."""
        if not self.sender.is_connected():
            ring.count("no_agent")
            return
        began_ns = time.perf_counter_ns()
        run.stream = int(run.stream)
        try:
            if self._cuda.is_capturing(run.stream):
                return  # a graph is being made: nothing is executed
        except OSError:
            # TensorRT makes the GPU's context current in a thread with its first execution there
            ring.count("twin_failed")
            return
        profile = run.look.profile
        twin = self._twins.get(profile) or self._make(profile, run.stream, ring)
        if twin is None:
            return
        if not twin.claim():
            ring.count("twin_busy")
            return
        try:
            twin.take_over(run.context, self.facts.tensors, self.facts.input_names)
        except Exception as error:  # noqa: BLE001 - the hot context is as good as ever
            twin.release()
            self._fail(profile, ring, error)
            return
        self._failures.pop(profile, None)
        run.twin, run.context, run.sampled = twin, twin.context, True
        look = run.look
        number, run.since_change = twin.next_run(look.shape.packed)
        run.look = Look(look.profile, number, look.shape, look.stratum, None)
        run.overhead_ns = time.perf_counter_ns() - began_ns

    def finish(self, run: FullRun, ring: RingWriter, cuda: Cuda | None) -> None:
        """The block has ended: report, and send. With `cuda`, once the stream is done; without, it is known to be past it."""
        twin = run.twin
        assert twin is not None
        began_ns = time.perf_counter_ns()
        try:
            if cuda is not None:
                if not cuda.is_idle(run.stream):
                    cuda.wait(run.stream)
                cuda.settle(run.stream, self._byte)
            lost = self._pass_on(twin, run, ring)
            ring.count(lost or "sampled")
            if lost is None:
                run.flags |= SAMPLED
        except Exception:  # noqa: BLE001 - the execution itself went well
            ring.count("errors")
            _log.warning("the layers of an execution are lost", exc_info=True)
        finally:
            run.twin = None
            twin.release()
            ring.count("overhead_ns", run.overhead_ns + time.perf_counter_ns() - began_ns)

    def twin_bytes(self, profile: int) -> int:
        """Device memory that a twin of this profile will take at least; 0 where TensorRT does not say."""
        return twin_bytes(self._engine, profile)

    def close(self) -> None:
        """Drop the twins; one that is in use stays for good, since destroying it under the GPU would crash."""
        self.sender.close()
        twins, self._twins = list(self._twins.values()), {}
        for twin in twins:
            if not twin.claim():
                twin.give_up()

    def _pass_on(self, twin: Twin, run: FullRun, ring: RingWriter) -> str | None:
        """None where the agent's socket has the layers; else the counter of their loss."""
        reported = twin.report()
        if reported is None:
            return "not_reported"
        times_ms, names = reported
        if names:
            self._learn(twin, names)
        if twin.runs == 1:
            return "warm_up"
        if len(times_ms) != 4 * self._layers.get(twin.profile, 0):
            return "layer_count"
        return self.sender.send(
            encode_sample(LayerSample(self._token, ring.number, ring.position, twin.profile, times_ms))
        )

    def _learn(self, twin: Twin, names: list[str]) -> None:
        """The profiler's names are what counts; an engine built without names has no others."""
        twin.stop_naming()
        known = next((p.layers for p in self._manifest.profiles if p.profile == twin.profile), [])
        if [layer.name for layer in known] != names:
            self._manifest = with_names(self._manifest, twin.profile, names)
            self._layers[twin.profile] = len(names)
            self._publish(self._manifest)

    def _make(self, profile: int, stream: int, ring: RingWriter) -> Twin | None:
        if profile in self.refusals:
            ring.count("twin_refused")
            return None
        if not self._making.acquire(blocking=False):
            ring.count("twin_busy")
            return None
        try:
            made = self._twins[profile] = self._new(profile, stream)
            return made
        except Exception as error:  # noqa: BLE001 - whatever it is, the hot context serves
            ring.count("twin_refused")
            self._refuse(profile, str(error) if isinstance(error, TwinRefused) else repr(error))
            return None
        finally:
            self._making.release()

    def _new(self, profile: int, stream: int) -> Twin:
        if not self.facts.shares_profiles:
            raise TwinRefused(
                "TensorRT before 10 ends the process where two contexts ask for a profile that is not shared: build the "
                "engine with `layerwatch engine build` and keep its notes beside the plan, or with "
                "PreviewFeature.PROFILE_SHARING_0806 and say so: Probe(..., shares_profiles=True), doctor --shares-profiles"
            )
        needs, free = self.twin_bytes(profile), self._cuda.free_bytes()
        if needs + HEADROOM_BYTES > free:
            raise TwinRefused(
                f"a twin needs {needs >> 20} MiB of device memory and {HEADROOM_BYTES >> 20} MiB must stay free, "
                f"of {free >> 20} MiB"
            )
        _log.info(
            "profile %d: the profiled twin takes %d MiB of device memory, of %d MiB that are free",
            profile,
            needs >> 20,
            free >> 20,
        )
        self._byte = self._byte or self._cuda.new_byte()
        twin = Twin(self._engine, self._trt, self._recorder(), profile, stream)
        self.device_bytes += needs
        self.page.tell_device_bytes(self.device_bytes)
        return twin

    def _fail(self, profile: int, ring: RingWriter, error: Exception) -> None:
        ring.count("twin_failed")
        self._failures[profile] = self._failures.get(profile, 0) + 1
        if self._failures[profile] >= _GIVE_UP_AFTER:
            self._refuse(profile, f"{_GIVE_UP_AFTER} times in a row: {error!r}")

    def _refuse(self, profile: int, why: str) -> None:
        self.refusals[profile] = why
        self._twins.pop(profile, None)  # whoever runs on it just now keeps it until the end
        _log.warning("profile %d has no profiled twin, its layers are not sampled: %s", profile, why)
