"""Settings of the processes: the environment (`LAYERWATCH_...`, nested with `__`) over an optional TOML file.

Read once, when a command starts; nothing else reads the environment.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field, SecretStr, ValidationError, model_validator
from pydantic_settings import (
    BaseSettings,
    PydanticBaseSettingsSource,
    SettingsConfigDict,
    TomlConfigSettingsSource,
)

from layerwatch.schemas.errors import ConfigError

#: Names the TOML file; without it only the environment counts.
CONFIG_VARIABLE = "LAYERWATCH_CONFIG"
PREFIX = "LAYERWATCH_"


class _Section(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class KafkaSettings(_Section):
    bootstrap: str | None = Field(
        None, description="host:port[,host:port] of your cluster; unset: a local broker"
    )
    port: int = Field(
        19092, ge=1, le=65534, description="of the local broker; its controller takes the next one"
    )
    partitions: int = Field(24, ge=1, description="of the topics that are shared out; fixed once created")
    replication: int = Field(1, ge=1, description="copies of each topic")
    security: Literal["PLAINTEXT", "SSL", "SASL_PLAINTEXT", "SASL_SSL"] = Field(
        "PLAINTEXT", description="protocol of your cluster's listener; SSL is TLS"
    )
    ca_file: Path | None = Field(
        None, description="PEM of whom to trust for TLS; unset: this machine's authorities"
    )
    cert_file: Path | None = Field(None, description="PEM of our own certificate, where TLS asks for one")
    key_file: Path | None = Field(None, description="PEM of its key; unset: in the same file")
    sasl_mechanism: Literal["PLAIN", "SCRAM-SHA-256", "SCRAM-SHA-512"] = Field(
        "SCRAM-SHA-512", description="how user and password are proven"
    )
    username: str | None = Field(None, description="of SASL")
    password: SecretStr | None = Field(None, description="of SASL; better a file")
    password_file: Path | None = Field(None, description="file with nothing but the password")

    @property
    def servers(self) -> str:
        return self.bootstrap or f"127.0.0.1:{self.port}"


class AgentSettings(_Section):
    folder: Path = Field(Path("/dev/shm/layerwatch"), description="shared with the runtimes of this host")
    http_port: int = Field(
        19313, ge=0, le=65535, description="/healthz and /metrics on loopback; 0 picks one"
    )
    window_s: float = Field(1, gt=0, le=10, description="between two messages of an instance")
    ceiling_pct: float = Field(
        0.5, gt=0, description="latency that sampling may cost, in percent of the mean"
    )
    raised_ceiling_pct: float = Field(
        10, gt=0, description="the same while an instance is suspected or a build is new"
    )
    dcgm_url: str | None = Field(
        None, description="/metrics of a DCGM exporter; unset: NVML where it is installed"
    )


class ProcessorSettings(_Section):
    http_port: int = Field(
        19311, ge=0, le=65535, description="/healthz and /metrics on loopback; 0 picks one"
    )
    checkpoint_s: float = Field(2, gt=0, description="between two writes of state to Kafka")
    manifest_wait_s: float = Field(10, ge=0, description="how long timings wait for their engine's manifest")
    silence_s: float = Field(15, gt=0, description="without a message before an instance counts as silent")
    sampling: Literal["auto", "baseline", "off"] = Field(
        "auto", description="auto raises it on suspicion; baseline never does; off stops it"
    )
    hang_s: float = Field(30, gt=0, description="without progress before the process ends itself")


class DecisionSettings(_Section):
    http_port: int = Field(
        19312, ge=0, le=65535, description="/healthz and /metrics on loopback; 0 picks one"
    )
    mode: Literal["shadow", "advise", "enforce"] = Field(
        "shadow", description="what decisions are worth, where services.toml says nothing else"
    )
    policy: Path | None = Field(None, description="policy file (TOML); unset: the shipped one")
    checkpoint_s: float = Field(2, gt=0, description="between two writes of state to Kafka")
    hang_s: float = Field(30, gt=0, description="without progress before the process ends itself")


class ScalerSettings(_Section):
    http_port: int = Field(
        19316, ge=0, le=65535, description="/healthz and /metrics on loopback; 0 picks one"
    )
    grpc_host: str = Field("127.0.0.1", description="address on which KEDA asks; 0.0.0.0 in a container")
    grpc_port: int = Field(19317, ge=0, le=65535, description="where KEDA asks; 0 picks one")
    grpc_certificate: Path | None = Field(None, description="PEM chain; with grpc_key, KEDA must use TLS")
    grpc_key: Path | None = Field(None, description="PEM key of grpc_certificate")
    stale_s: float = Field(60, gt=0, description="age of a service's load from which nothing is answered")

    @model_validator(mode="after")
    def _both_or_none(self) -> ScalerSettings:
        if (self.grpc_certificate is None) != (self.grpc_key is None):
            raise ValueError("grpc_certificate and grpc_key belong together: set both, or none")
        return self


class HistorySettings(_Section):
    http_host: str = Field("127.0.0.1", description="address to listen on")
    http_port: int = Field(19310, ge=0, le=65535, description="REST, /healthz and /metrics; 0 picks one")
    url: str | None = Field(None, description="where `layerwatch alerts` asks; unset: this machine")

    @property
    def base_url(self) -> str:
        return self.url or f"http://127.0.0.1:{self.http_port}"


class NotifySettings(_Section):
    http_port: int = Field(
        19315, ge=0, le=65535, description="/healthz and /metrics on loopback; 0 picks one"
    )
    gather_s: float = Field(
        5,
        ge=0,
        description="from an incident's first alert until people are told: what was decided is told with it",
    )
    hold_s: float = Field(
        300,
        ge=0,
        description="without an alert until an incident is resolved; what comes back is no new page",
    )
    resend_s: float = Field(60, gt=0, description="between two sendings to Alertmanager of what fires")
    runbook_url: str | None = Field(
        None, description="told with each incident, unless its alert has one of its own"
    )


class LogSettings(_Section):
    level: Literal["debug", "info", "warning", "error"] = Field(
        "info", description="least severe line to write"
    )
    format: Literal["auto", "console", "json"] = Field(
        "auto", description="auto: console on a terminal, else JSON"
    )


class Settings(BaseSettings):
    """All settings. Frozen; `load()` reads them."""

    model_config = SettingsConfigDict(
        env_prefix=PREFIX, env_nested_delimiter="__", frozen=True, extra="forbid", env_ignore_empty=True
    )

    state_dir: Path = Field(
        Path(".layerwatch"), description="broker data, tables, history database, Kafka's jars"
    )
    models_dir: Path | None = Field(
        None, description="models fitted by `layerwatch train`; unset: the shipped ones"
    )
    services: Path | None = Field(
        None, description="services.toml, what people say of their services; unset: nothing"
    )
    http_host: str = Field(
        "127.0.0.1",
        description="where /healthz and /metrics listen, but for the history; in a container 0.0.0.0",
    )
    kafka: KafkaSettings = KafkaSettings()
    agent: AgentSettings = AgentSettings()
    processor: ProcessorSettings = ProcessorSettings()
    decision: DecisionSettings = DecisionSettings()
    history: HistorySettings = HistorySettings()
    scaler: ScalerSettings = ScalerSettings()
    notify: NotifySettings = NotifySettings()
    log: LogSettings = LogSettings()

    @classmethod
    def settings_customise_sources(
        cls,
        settings_cls: type[BaseSettings],
        init_settings: PydanticBaseSettingsSource,
        env_settings: PydanticBaseSettingsSource,
        dotenv_settings: PydanticBaseSettingsSource,
        file_secret_settings: PydanticBaseSettingsSource,
    ) -> tuple[PydanticBaseSettingsSource, ...]:
        file = os.environ.get(CONFIG_VARIABLE)
        return (
            (init_settings, env_settings, TomlConfigSettingsSource(settings_cls, toml_file=file))
            if file
            else (init_settings, env_settings)
        )


def load() -> Settings:
    """Settings from environment and file; raises ConfigError naming the setting and its variable."""
    file = os.environ.get(CONFIG_VARIABLE)
    if file and not Path(file).is_file():
        raise ConfigError(f"{CONFIG_VARIABLE} names {file}, which is not a file")
    try:
        return Settings()
    except ValidationError as error:
        first = error.errors()[0]
        path = tuple(str(part) for part in first["loc"])
        raise ConfigError(
            f"setting {'.'.join(path)} ({variable(path)}): {first['msg']}; `layerwatch doctor` lists all settings"
        ) from error


def variable(path: tuple[str, ...]) -> str:
    """The environment variable of a setting."""
    return PREFIX + "__".join(path).upper()


def describe(settings: Settings) -> Iterator[tuple[tuple[str, ...], Any, str, str]]:
    """Every setting as (path, value, where it was set, description)."""
    file = os.environ.get(CONFIG_VARIABLE)
    from_file = TomlConfigSettingsSource(Settings, toml_file=file)() if file else {}
    yield from _walk(settings, (), from_file)


def _walk(
    section: BaseModel, path: tuple[str, ...], from_file: Any
) -> Iterator[tuple[tuple[str, ...], Any, str, str]]:
    for name, field in type(section).model_fields.items():
        value = getattr(section, name)
        inner = from_file.get(name) if isinstance(from_file, dict) else None
        here = (*path, name)
        if isinstance(value, BaseModel):
            yield from _walk(value, here, inner)
        else:
            source = (
                variable(here)
                if os.environ.get(variable(here))
                else "file"
                if inner is not None
                else "default"
            )
            yield here, value, source, field.description or ""
