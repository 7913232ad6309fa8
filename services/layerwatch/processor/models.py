"""The models that a processor starts with."""

from __future__ import annotations

from layerwatch.detectors.models import (
    FILES,
    FOREST_FILE,
    LSTM_FILE,
    SLOW_FILE,
    Models,
    forest_from,
    lstm_from,
    shipped,
)
from layerwatch.hosting.settings import Settings
from layerwatch.schemas.errors import ConfigError, InvalidRecord


def first_models(settings: Settings) -> Models:
    """The shipped models, or those of `models_dir`; some of the files may be missing there."""
    folder = settings.models_dir
    if folder is None:
        return shipped()
    found = {name: folder / name for name in FILES if (folder / name).is_file()}
    if not found:
        raise ConfigError(f"no {' or '.join(FILES)} in {folder}: run `layerwatch train --out {folder}`")
    try:
        return Models(
            forest_from(found[FOREST_FILE].read_bytes()) if FOREST_FILE in found else None,
            lstm_from(found[LSTM_FILE].read_bytes()) if LSTM_FILE in found else None,
            lstm_from(found[SLOW_FILE].read_bytes()) if SLOW_FILE in found else None,
        )
    except InvalidRecord as error:
        raise ConfigError(
            f"a model in {folder} cannot be used ({error}): fit it anew with `layerwatch train`"
        ) from error
