"""The one tree of exceptions of layerwatch. Every message says what to do about it."""

from __future__ import annotations


class LayerwatchError(Exception):
    """Root of everything that layerwatch raises on purpose."""


class InvalidRecord(LayerwatchError):
    """Raised when bytes from outside cannot be used. `reason` is a short code for counters and dead letters."""

    def __init__(self, reason: str, detail: str) -> None:
        super().__init__(f"{reason}: {detail}")
        self.reason = reason
        self.detail = detail


class MissingManifest(InvalidRecord):
    """Raised when timings arrive for an engine whose manifest nobody has published (yet)."""

    def __init__(self, engine: str) -> None:
        super().__init__(
            "missing_manifest",
            f"no manifest for engine {engine}: publish it to layerwatch.engines before its timings",
        )
        self.engine = engine


class ConfigError(LayerwatchError):
    """Raised when a setting or an argument cannot be used."""


class Unavailable(LayerwatchError):
    """Raised when something that is needed does not answer: Kafka, Java, the history service."""
