"""What `layerwatch doctor` looks at. Each check says what it found and, unless all is well, how to mend it."""

from __future__ import annotations

import shutil
import socket
import sys
from collections.abc import Iterator
from typing import Literal, NamedTuple
from urllib.error import HTTPError
from urllib.request import urlopen

from layerwatch.broker import jars
from layerwatch.cli.stack import url, wanted
from layerwatch.decision.rulebook import load_policy
from layerwatch.hosting import topics
from layerwatch.hosting.kafka import admin
from layerwatch.hosting.kill_switch import KillSwitch
from layerwatch.hosting.services import load_services
from layerwatch.hosting.settings import Settings
from layerwatch.schemas.errors import ConfigError, Unavailable
from layerwatch.schemas.operations import ALL

#: Below this much room in state_dir we warn, in bytes.
_ROOM_BYTES = 2 << 30
_ASK_TIMEOUT_S = 2.0
_KAFKA_TIMEOUT_MS = 2_000


class Check(NamedTuple):
    """One finding; only `fail` makes the exit status 1."""

    name: str
    state: Literal["ok", "warn", "fail"]
    found: str
    remedy: str = ""


def run(settings: Settings) -> Iterator[Check]:
    """All checks, in the order in which a person would mend things."""
    yield _python()
    if settings.kafka.bootstrap is None:
        yield _java()
        yield from _jars(settings)
    yield from _kafka(settings)
    yield _models(settings)
    yield _policy(settings)
    yield _kill_switch(settings)
    yield _room(settings)
    try:
        services = wanted(settings)
    except ConfigError as error:
        yield Check("services", "fail", "services.toml", str(error))
        return
    yield _channels(settings)
    for service in services:
        yield _port(settings, service)


def _python() -> Check:
    has = ".".join(map(str, sys.version_info[:3]))
    if sys.version_info >= (3, 11):
        return Check("python", "ok", has)
    return Check(
        "python",
        "warn",
        f"{has}: enough for the agent alone",
        "install Python 3.11 or later for the services",
    )


def _java() -> Check:
    try:
        jars.require_java()
    except Unavailable as error:
        return Check("java", "fail", f"{jars.java_major() or 'none'}", str(error))
    return Check("java", "ok", str(jars.java_major()))


def _jars(settings: Settings) -> Iterator[Check]:
    libs = settings.state_dir / "kafka-libs"
    maven = shutil.which("mvn")
    if jars.present(libs):
        yield Check("jars", "ok", str(libs))
    elif maven:
        yield Check(
            "jars", "warn", f"not in {libs} yet", "`layerwatch up` or `layerwatch broker` fetches them"
        )
    else:
        remedy = "apt-get install maven, which fetches them, or set LAYERWATCH_KAFKA__BOOTSTRAP"
        yield Check("jars", "fail", f"not in {libs}, and no Maven", remedy)
    if maven:
        yield Check("maven", "ok", maven)


def _kafka(settings: Settings) -> Iterator[Check]:
    servers = settings.kafka.servers
    try:
        admin(settings, bootstrap_timeout_ms=_KAFKA_TIMEOUT_MS).close()
        problems = topics.check(settings)
    except Unavailable as error:
        idle = settings.kafka.bootstrap is None and _is_free(settings.kafka.port)
        if idle:
            yield Check("kafka", "warn", f"nothing runs at {servers}", "`layerwatch up` starts it")
        else:
            yield Check("kafka", "fail", f"no answer at {servers}", str(error))
        return
    yield Check("kafka", "ok", servers)
    if not problems:
        yield Check("topics", "ok", "all as they must be")
    for problem in problems:
        found, _, remedy = problem.partition(": ")
        yield Check("topics", "fail", found, remedy)


def _models(settings: Settings) -> Check:
    folder = settings.models_dir
    if folder is None:
        return Check("models", "ok", "shipped")
    try:
        count = sum(path.suffix == ".safetensors" for path in folder.iterdir())
    except OSError as error:
        remedy = "set LAYERWATCH_MODELS_DIR to a readable folder, or unset it"
        return Check("models", "fail", f"{folder}: {error.strerror}", remedy)
    if not count:
        return Check("models", "fail", f"no *.safetensors in {folder}", "`layerwatch train` puts them there")
    return Check("models", "ok", f"{count} in {folder}")


def _policy(settings: Settings) -> Check:
    try:
        policy = load_policy(settings.decision.policy)
    except ConfigError as error:
        return Check("policy", "fail", str(settings.decision.policy), str(error))
    return Check(
        "policy",
        "ok",
        f"{policy.label}, {'shipped' if settings.decision.policy is None else settings.decision.policy}",
    )


def _kill_switch(settings: Settings) -> Check:
    off = KillSwitch(settings.state_dir).killed()
    if not off:
        return Check("kill switch", "ok", "decisions are not switched off on this machine")
    said = "; ".join(f"{'every service' if name == ALL else name}: {why}" for name, why in off.items())
    return Check(
        "kill switch", "warn", f"decisions are off for {said}", "`layerwatch kill --resume` takes it back"
    )


def _room(settings: Settings) -> Check:
    folder = settings.state_dir.resolve()
    while not folder.exists():
        folder = folder.parent
    free = shutil.disk_usage(folder).free
    found = f"{free / (1 << 30):.1f} GiB free at {folder}"
    if free < _ROOM_BYTES:
        return Check("disk", "warn", found, "make room (2 GiB), or set LAYERWATCH_STATE_DIR to another disk")
    return Check("disk", "ok", found)


def _channels(settings: Settings) -> Check:
    channels = load_services(settings.services).channels
    if not channels:
        remedy = "add [channels.NAME] to services.toml and let LAYERWATCH_SERVICES name it"
        return Check("channels", "ok", f"none: people are told of nothing ({remedy})")
    for name, channel in channels.items():
        try:
            channel.secret()
        except ConfigError as error:
            return Check("channels", "fail", name, str(error))
    return Check(
        "channels", "ok", ", ".join(f"{name} ({channel.kind})" for name, channel in channels.items())
    )


def _port(settings: Settings, service: str) -> Check:
    port: int = getattr(settings, service).http_port
    if port == 0:
        return Check(service, "ok", "picks a free port")
    if _is_free(port):
        return Check(service, "ok", f"not running, port {port} is free")
    remedy = f"end what listens there, or set LAYERWATCH_{service.upper()}__HTTP_PORT"
    try:
        with urlopen(f"{url(settings, service)}/healthz", timeout=_ASK_TIMEOUT_S):
            return Check(service, "ok", f"healthy on port {port}")
    except HTTPError as error:
        found = f"port {port} answers {error.code}: {error.read(200).decode(errors='replace').strip()}"
        return Check(service, "fail", found, f"see its log, or {remedy}")
    except OSError:
        return Check(service, "fail", f"port {port} is taken by something else", remedy)


def _is_free(port: int) -> bool:
    with socket.socket() as probe:
        return probe.connect_ex(("127.0.0.1", port)) != 0
