"""services.toml: what people say about their services. Read once, when a process starts.

[defaults]                       # for every service, also one that is not named here
owner = "platform"

[services.bert-qa]
owner = "nlp"
mode = "enforce"                 # shadow, advise or enforce
target_latency_ms = 25           # p99 that its requests should keep
standby = "bert-qa-v1"           # the build that failover goes to, by the name that runtimes know it by
fallback = "fp16"                # the build that fallback_precision goes to
min_replicas = 2
max_replicas = 12
startup_s = 120                  # from the order of a replica until it serves
max_share = 0.5                  # of its instances that may be on standby or fallback at once
channels = ["nlp-pager"]

[channels.nlp-pager]             # how people are told
kind = "pagerduty"
secret_file = "/run/secrets/nlp-pagerduty"
severity = "critical"
"""

from __future__ import annotations

import difflib
import os
import sys
from pathlib import Path
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from layerwatch.hosting.toml_lines import line_of
from layerwatch.schemas.errors import ConfigError

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

Mode = Literal["shadow", "advise", "enforce"]


class _Table(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", strict=True)


class Service(_Table):
    """One service. What is None was not said, and nobody may guess it."""

    owner: str = ""
    mode: Mode | None = None  # None: LAYERWATCH_DECISION__MODE
    target_latency_ms: float | None = Field(None, gt=0)
    standby: str | None = Field(None, min_length=1)
    fallback: str | None = Field(None, min_length=1)
    min_replicas: int | None = Field(None, ge=0)
    max_replicas: int | None = Field(None, ge=1)
    startup_s: float = Field(120.0, gt=0)
    max_share: float = Field(0.5, gt=0, le=1)
    channels: list[str] = []

    @model_validator(mode="after")
    def _limits_agree(self) -> Service:
        least, most = self.min_replicas, self.max_replicas
        if least is not None and most is not None and most < least:
            raise ValueError("max_replicas is below min_replicas: raise the one or lower the other")
        return self


class Channel(_Table):
    """A way to tell people. The secret (key, token, password) is in a file or a variable of its own, never here."""

    kind: Literal["alertmanager", "pagerduty", "slack", "webhook"]
    urls: list[str] = []  # of all peers; empty: the kind's own
    secret_file: Path | None = Field(None, strict=False)
    secret_env: str | None = None  # name of the variable that holds it
    room: str = ""  # of Slack: the channel, such as "#oncall"
    severity: Literal["warning", "critical"] = "warning"  # the least that is told; nobody is told of info

    @model_validator(mode="after")
    def _can_be_reached(self) -> Channel:
        if self.kind in ("alertmanager", "webhook") and not self.urls:
            raise ValueError(f"a channel of kind {self.kind} needs urls")
        if self.kind in ("pagerduty", "slack") and not (self.secret_file or self.secret_env):
            raise ValueError(f"a channel of kind {self.kind} needs secret_file or secret_env")
        if self.kind == "slack" and not self.room:
            raise ValueError('a channel of kind slack needs room, such as "#oncall"')
        for url in self.urls:
            if not url.startswith(("http://", "https://")):
                raise ValueError(f"{url} is no URL: write it as http://host:port or https://host")
        return self

    def secret(self) -> str | None:
        """Its key or token; None where it needs none. Raises ConfigError where it cannot be read."""
        if self.secret_env is not None:
            found = os.environ.get(self.secret_env, "").strip()
            if not found:
                raise ConfigError(f"the variable {self.secret_env} is empty: set it to the channel's key")
            return found
        if self.secret_file is None:
            return None
        try:
            found = self.secret_file.read_text().strip()
        except (OSError, UnicodeDecodeError) as error:
            raise ConfigError(
                f"secret_file {self.secret_file} cannot be read ({type(error).__name__}): mend the file or its rights"
            ) from error
        if not found:
            raise ConfigError(f"secret_file {self.secret_file} is empty: write the channel's key into it")
        return found


class Services(_Table):
    """All that the file says."""

    defaults: Service = Service()
    services: dict[str, Service] = {}
    channels: dict[str, Channel] = {}

    def get(self, name: str) -> Service:
        """What holds for a service: what it says itself over the defaults."""
        return self.services.get(name, self.defaults)


def load_services(path: Path | None) -> Services:
    """The file's content; without a path nothing is said of any service.

    Raises ConfigError naming the file, the line, the key and the remedy.
    """
    if path is None:
        return Services()
    try:
        text = path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError(
            f"{path} cannot be read ({error}): mend it, or unset LAYERWATCH_SERVICES"
        ) from error
    try:
        raw = tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        raise ConfigError(f"{path}: {error}; the file must be TOML") from error
    try:
        found = Services.model_validate(_with_defaults(raw))
    except ValidationError as error:
        first = error.errors()[0]
        raise _complaint(path, text, raw, tuple(str(part) for part in first["loc"]), _said(first)) from error
    for name, service in [("defaults", found.defaults), *found.services.items()]:
        for channel in service.channels:
            if channel not in found.channels:
                place = ("defaults", "channels") if name == "defaults" else ("services", name, "channels")
                said = f"there is no channel {channel!r}: add a table [channels.{channel}], or take it out"
                raise _complaint(path, text, raw, place, said)
    return found


def _with_defaults(raw: dict[str, Any]) -> dict[str, Any]:
    """Each service's table over that of the defaults, where both are tables: else validation will say so."""
    defaults, services = raw.get("defaults"), raw.get("services")
    if not isinstance(defaults, dict) or not isinstance(services, dict):
        return raw
    merged = {name: defaults | own if isinstance(own, dict) else own for name, own in services.items()}
    return raw | {"services": merged}


def _said(error: Any) -> str:
    """What is wrong with a value, and the remedy."""
    key = str(error["loc"][-1]) if error["loc"] else ""
    if error["type"] == "extra_forbidden":
        known = _keys_at(error["loc"])
        near = difflib.get_close_matches(key, known, 1)
        meant = f"did you mean {near[0]!r}?" if near else f"known are {', '.join(known)}"
        return f"there is no such key; {meant}"
    said: str = error["msg"].removeprefix("Value error, ")
    return f"{said}, but it is {error['input']!r}" if error["type"] != "value_error" else said


def _keys_at(location: tuple[Any, ...]) -> list[str]:
    tables: dict[str, type[BaseModel]] = {"services": Service, "defaults": Service, "channels": Channel}
    named = str(location[0]) if len(location) > 1 else ""
    return list(tables.get(named, Services).model_fields)


def _complaint(path: Path, text: str, raw: dict[str, Any], key: tuple[str, ...], said: str) -> ConfigError:
    if key[:1] == ("services",) and len(key) > 2 and key[2] not in raw["services"][key[1]]:
        inherited = ("defaults", *key[2:])
        key = inherited if key[2] in raw.get("defaults", {}) else key
    line = line_of(text, key)
    place = f"{path}, line {line}" if line else str(path)
    return ConfigError(f"{place}: {'.'.join(key)}: {said}")
