"""The rules of each service: the policy file, and what people say in services.toml. Read once, when the process starts."""

from __future__ import annotations

from importlib.metadata import version
from pathlib import Path

from layerwatch.detectors.deciding.policy import Policy, PolicyError, parse_policy, shipped_policy
from layerwatch.detectors.deciding.state import Rules
from layerwatch.hosting.services import Services, load_services
from layerwatch.hosting.settings import Settings
from layerwatch.hosting.toml_lines import line_of
from layerwatch.schemas.errors import ConfigError


class Rulebook:
    """`rules_for` a service."""

    def __init__(self, policy: Policy, services: Services, mode: str) -> None:
        self._policy = policy
        self._services = services
        self._mode = mode
        self._software = version("layerwatch")

    def rules_for(self, service: str) -> Rules:
        said = self._services.get(service)
        return Rules(
            policy=self._policy,
            mode=said.mode or self._mode,
            standby=said.standby,
            fallback=said.fallback,
            startup_s=said.startup_s,
            max_share=said.max_share,
            software=self._software,
        )


def load_rulebook(settings: Settings) -> Rulebook:
    """Raises ConfigError naming file, line, key and remedy."""
    services = load_services(settings.services)
    return Rulebook(load_policy(settings.decision.policy), services, settings.decision.mode)


def load_policy(path: Path | None) -> Policy:
    """A policy file, or the shipped policy without a path. Raises ConfigError naming file, line, key and remedy."""
    if path is None:
        return shipped_policy()
    try:
        text = path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError(
            f"{path} cannot be read ({error}): mend it, or unset LAYERWATCH_DECISION__POLICY"
        ) from error
    try:
        return parse_policy(text)
    except PolicyError as error:
        line = line_of(text, error.key) if error.key else None
        raise ConfigError(f"{path}, line {line}: {error}" if line else f"{path}: {error}") from error
