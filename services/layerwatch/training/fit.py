"""Fits every model that healthy data suffice for, and says which are better than those in use."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager
from dataclasses import asdict, dataclass, field
from typing import Any

import numpy as np

from layerwatch.detectors import models as m
from layerwatch.detectors.arrays import F64
from layerwatch.detectors.forest import FlatForest
from layerwatch.detectors.pooled import SCHEMA
from layerwatch.schemas.errors import ConfigError
from layerwatch.schemas.models import ModelRecord
from layerwatch.training.choose_forest import LEAST_WINDOWS, Choice, choose_forest, split
from layerwatch.training.fit_lstm import fit_lstm
from layerwatch.training.fit_minutes import fit_minutes
from layerwatch.training.harvest import Harvest

_LEVEL_STEPS, _MINUTE_STEPS = 400, 1500

#: (what, total, unit) -> a context that is called with what is done.
Progress = Callable[[str, int, str], AbstractContextManager[Callable[[int], None]]]


@dataclass(slots=True)
class Fitted:
    """`models` that are worth using, `kept`: builds for which the common forest is as good, and what was found by model."""

    valid_from_s: float
    models: list[ModelRecord] = field(default_factory=list)
    kept: list[str] = field(default_factory=list)
    report: dict[str, Any] = field(default_factory=dict)

    def add(self, build: str, kind: str, stream: str, features: str, tensors: bytes) -> None:
        self.models.append(
            ModelRecord(
                build=build,
                kind=kind,
                stream=stream,
                features=features,
                valid_from_s=self.valid_from_s,
                tensors=tensors,
            )
        )


def fit_all(harvest: Harvest, present: FlatForest, valid_from_s: float, progress: Progress) -> Fitted:
    """A model for which there is too little is left as it is, and the report says so.

    Raises ConfigError where there is too little for any.
    """
    out = Fitted(valid_from_s)
    reasons: list[str] = []

    def attempt(name: str, fit: Callable[[], dict[str, Any]]) -> None:
        try:
            out.report[name] = fit()
        except ConfigError as error:
            reasons.append(str(error))
            out.report[name] = {"left as it is": str(error)}

    windows = {build: np.concatenate(of) for build, of in harvest.windows.items()}
    with progress("fit forests", 1 + len(windows), "forests") as done:
        attempt("forest", lambda: _fit_forests(windows, present, out, done))
    with progress("fit the LSTM of seconds", _LEVEL_STEPS, "steps") as done:
        attempt("lstm", lambda: _fit_seconds(harvest.seconds, out, done))
    with progress("fit the LSTM of minutes", _MINUTE_STEPS, "steps") as done:
        attempt("slow_lstm", lambda: _fit_minutes(harvest.minutes, out, done))
    if len(reasons) == len(out.report):
        raise ConfigError("; ".join(reasons))
    return out


def _fit_forests(
    windows: Mapping[str, F64], present: FlatForest, out: Fitted, done: Callable[[int], None]
) -> dict[str, Any]:
    """One for every build, and one for each build that has enough windows."""
    total = sum(map(len, windows.values()))
    if total < LEAST_WINDOWS:
        raise ConfigError(
            f"{total} healthy windows are too few to fit a forest on ({LEAST_WINDOWS} are needed): "
            "record longer, or name more recordings"
        )
    parts = {build: split(of) for build, of in windows.items()}
    fit, held_out = (np.concatenate(part) for part in zip(*parts.values(), strict=True))
    common = choose_forest(fit, held_out, present)
    if common.better:
        _add_forest(out, m.EVERY_BUILD, common)
        present = common.forest
    done(1)
    builds: dict[str, Any] = {}
    for number, (build, of) in enumerate(parts.items(), 2):
        if len(windows[build]) >= LEAST_WINDOWS:
            own = choose_forest(*of, present)
            builds[build] = _told(own)
            if own.better:
                _add_forest(out, build, own)
            else:
                out.kept.append(build)
        done(number)
    return {**_told(common), "builds": builds}


def _add_forest(out: Fitted, build: str, choice: Choice) -> None:
    out.add(build, "forest", m.FOREST_STREAM, SCHEMA, m.forest_bytes(choice.forest))


def _told(choice: Choice) -> dict[str, Any]:
    rates = {"fitted": asdict(choice.fitted), "present": asdict(choice.present)}
    rounded = {of: {name: round(rate, 4) for name, rate in by.items()} for of, by in rates.items()}
    return {"better": choice.better, "held_out_windows": choice.held_out, **rounded}


def _fit_seconds(runs: list[F64], out: Fitted, done: Callable[[int], None]) -> dict[str, Any]:
    weights, held_out = fit_lstm(runs, done, _LEVEL_STEPS)
    out.add(m.EVERY_BUILD, "lstm", m.LSTM_STREAM, m.LSTM_SCHEMA, m.lstm_bytes(weights))
    return {name: round(value, 4) for name, value in asdict(held_out).items()}


def _fit_minutes(runs: list[F64], out: Fitted, done: Callable[[int], None]) -> dict[str, Any]:
    weights, held_out = fit_minutes(runs, done, _MINUTE_STEPS)
    out.add(m.EVERY_BUILD, "lstm", m.SLOW_STREAM, m.SLOW_SCHEMA, m.lstm_bytes(weights))
    return {name: round(value, 4) for name, value in asdict(held_out).items()}
