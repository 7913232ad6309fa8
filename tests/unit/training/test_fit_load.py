"""The LSTM of load: the plain step computes what torch does, and fitting finds what can be found."""

from __future__ import annotations

import numpy as np
import pytest

from layerwatch.schemas.errors import ConfigError

torch = pytest.importorskip("torch", reason="fitting needs torch: make .venv/bin/.torch")
pytestmark = pytest.mark.torch


def _swings(n: int) -> np.ndarray[tuple[int], np.dtype[np.float64]]:
    out: np.ndarray[tuple[int], np.dtype[np.float64]] = 20 + 10 * np.sin(2 * np.pi * np.arange(n) / 60)
    return out


def test_a_swinging_load_is_forecast_better_than_by_an_ewma() -> None:
    from layerwatch.training.fit_load import fit_load

    told: list[int] = []
    model, fit = fit_load([_swings(900)], told.append, steps=150)
    assert told[-1] == 150
    assert fit.lstm < 0.5 * fit.ewma
    assert model.heads.shape == (3, model.hidden)


def test_the_plain_step_is_torchs() -> None:
    from layerwatch.training import fit_load

    torch.manual_seed(0)
    lstm, head = torch.nn.LSTM(1, 16, batch_first=True), torch.nn.Linear(16, 3)
    model = fit_load._weights(lstm, head)
    hidden, cell = np.zeros(16), np.zeros(16)
    inputs = [0.3, -0.5, 2.0]
    for x in inputs:
        hidden, cell = model.step(x, hidden, cell)
    with torch.no_grad():
        wanted = head(lstm(torch.tensor(inputs)[None, :, None])[0])[0, -1]
    assert model.heads @ hidden + model.biases == pytest.approx(wanted.numpy(), abs=1e-5)


def test_runs_that_are_too_short_are_refused() -> None:
    from layerwatch.training.fit_load import fit_load

    with pytest.raises(ConfigError, match="longer traces"):
        fit_load([_swings(100)], lambda done: None)
