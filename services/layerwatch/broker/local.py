"""One real Apache Kafka node on this machine: formatted once, loopback only, stopped clean."""

from __future__ import annotations

import base64
import shutil
import signal
import socket
import string
import subprocess
import time
import uuid
from pathlib import Path

from layerwatch.broker import files, jars
from layerwatch.hosting import process
from layerwatch.schemas.errors import ConfigError, Unavailable

#: Small: 146 MB resident instead of 1 GB, and up within 2 s.
_JVM = ("-Xms64m", "-Xmx384m", "-XX:+UseSerialGC", "-XX:TieredStopAtLevel=1", "-XX:-UsePerfData")
_READY_TIMEOUT_S = 60.0
_STOP_TIMEOUT_S = 15.0
_LOG_LINES = 15


class LocalBroker:
    """Apache Kafka (KRaft) with its data in `home`, run from the jars in `libs`, on `port` and `port + 1`."""

    name = "broker"

    def __init__(self, home: Path, libs: Path, port: int) -> None:
        self.home = home.resolve()
        self.libs = libs.resolve()
        self.port = port
        self.log = self.home / "broker.log"
        self._process: subprocess.Popen[bytes] | None = None
        self._log_start = 0

    @property
    def bootstrap(self) -> str:
        return f"127.0.0.1:{self.port}"

    @property
    def pid(self) -> int | None:
        """Of the running broker; None when there is none."""
        running = self._process
        return running.pid if running is not None and running.poll() is None else None

    def start(self, timeout_s: float = _READY_TIMEOUT_S) -> LocalBroker:
        """Launch and wait until clients can connect; on an error nothing is left running.

        Raises ConfigError when a port is taken, Unavailable with the end of the log when it does not come up.
        """
        self.launch()
        deadline = time.monotonic() + timeout_s
        try:
            while not self.ready():
                if time.monotonic() > deadline:
                    raise Unavailable(f"Kafka was not ready within {timeout_s:g} s{self._last_words()}")
                time.sleep(0.02)
        except BaseException:
            self.kill()
            raise
        return self

    def launch(self) -> None:
        """Format when new and start the process, without waiting until it is ready."""
        if self.pid is not None:
            return
        jars.require_java()
        self._require_free_ports()
        self.home.mkdir(parents=True, exist_ok=True)
        template = string.Template(files.find("server.properties").read_text())
        (self.home / "server.properties").write_text(
            template.substitute(port=self.port, controller_port=self.port + 1)
        )
        self._format()
        self._log_start = self.log.stat().st_size if self.log.exists() else 0
        with self.log.open("ab") as log:
            self._process = process.spawn(
                self._java("kafka.Kafka", "server.properties"), cwd=self.home, output=log
            )

    def ready(self) -> bool:
        """Whether clients can connect: Kafka opens its port last. Raises Unavailable when it has exited."""
        if self.pid is None:
            raise Unavailable(f"Kafka ended ({process.ending(self._process)}){self._last_words()}")
        with socket.socket() as probe:
            return probe.connect_ex(("127.0.0.1", self.port)) == 0

    def stop(self) -> None:
        """End it clean, by force after 15 s."""
        if (running := self._process) is not None:
            process.stop(running, _STOP_TIMEOUT_S)
            self._process = None

    def kill(self) -> None:
        """End it as a crash would (SIGKILL)."""
        if (running := self._process) is not None:
            process.signal_session(running, signal.SIGKILL)
            running.wait()
            self._process = None

    def restart(self) -> LocalBroker:
        """Stop if it runs, then start on the same data."""
        self.stop()
        return self.start()

    def _format(self) -> None:
        """Make the data folder a cluster's, once."""
        if (self.home / "data" / "meta.properties").exists():
            return
        # Encoded like Kafka's own ids, which may begin with a dash: hence the `=` below.
        cluster = base64.urlsafe_b64encode(uuid.uuid4().bytes).decode().rstrip("=")
        tool = ("kafka.tools.StorageTool", "format", f"--cluster-id={cluster}", "--config=server.properties")
        done = subprocess.run(self._java(*tool), cwd=self.home, capture_output=True, text=True, check=False)
        if done.returncode:
            raise Unavailable(
                f"Kafka could not format {self.home / 'data'}; if nothing in it is needed, remove it\n"
                + (done.stdout + done.stderr).strip()
            )

    def _java(self, *argv: str) -> list[str]:
        level = "-Dorg.slf4j.simpleLogger.defaultLogLevel=warn"
        network = "-Djava.net.preferIPv4Stack=true"
        java = shutil.which("java") or "java"
        return [java, *_JVM, level, network, "-cp", f"{self.libs}/*", *argv]

    def _require_free_ports(self) -> None:
        for port in (self.port, self.port + 1):
            with socket.socket() as probe:
                probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
                try:
                    probe.bind(("127.0.0.1", port))
                except OSError as error:
                    raise ConfigError(
                        f"port {port} on loopback is taken ({error.strerror}): end what listens there, or set "
                        "LAYERWATCH_KAFKA__PORT so that it and the next port are free"
                    ) from error

    def _last_words(self) -> str:
        if not self.log.exists():
            return ""
        with self.log.open("rb") as log:
            log.seek(self._log_start)
            lines = log.read().decode(errors="replace").splitlines()
        return f"; {self.log} ends with\n" + "\n".join(lines[-_LOG_LINES:])
