"""Settings handed on to a child process."""

from __future__ import annotations

import json
import os
from pathlib import Path

from pydantic import SecretStr

from layerwatch.hosting.settings import PREFIX, Settings, variable


def environment(settings: Settings) -> dict[str, str]:
    """Our environment, with variables that make a child process load exactly these settings."""
    handed = {name: value for name, value in os.environ.items() if not name.startswith(PREFIX)}
    for name, value in settings.model_dump(exclude_none=True).items():
        if isinstance(value, dict):
            handed |= {variable((name, inner)): _text(given) for inner, given in value.items()}
        else:
            handed[variable((name,))] = _text(value)
    return handed


def _text(value: object) -> str:
    if isinstance(value, SecretStr):
        return value.get_secret_value()
    return str(value) if isinstance(value, (str, Path)) else json.dumps(value)
