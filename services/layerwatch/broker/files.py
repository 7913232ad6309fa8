"""Where pom.xml and server.properties are: inside the wheel, or in a checkout's infra/kafka."""

from __future__ import annotations

from pathlib import Path

from layerwatch.schemas.errors import ConfigError


def find(name: str) -> Path:
    """Path of one of our Kafka files; raises ConfigError when the installation lacks it."""
    here = Path(__file__).resolve()
    folders = (here.parent / "kafka", here.parents[3] / "infra" / "kafka")
    for folder in folders:
        if (folder / name).is_file():
            return folder / name
    raise ConfigError(f"{name} is in none of {', '.join(map(str, folders))}: install layerwatch anew")
