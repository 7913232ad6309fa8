"""The LSTM that reads a service's rates: torch has fitted its weights, a plain step runs them."""

from __future__ import annotations

import zlib
from dataclasses import dataclass
from importlib import resources

import numpy as np
from safetensors import SafetensorError
from safetensors.numpy import load, save

from layerwatch.detectors.arrays import F64
from layerwatch.detectors.forecast import LstmWeights, lstm_step
from layerwatch.schemas.errors import InvalidRecord

#: Blocks ahead that it has a head for; between them it interpolates.
HORIZONS = (4, 12, 20)

FILE_NAME = "load_lstm.safetensors"
_LARGEST = 5.0


@dataclass(frozen=True, slots=True)
class LoadLstm:
    """Inputs are rates over their slow level, less one; outputs how far the EWMA is off at each horizon, over that level."""

    cell: LstmWeights  # its own head is not used
    heads: F64  # [horizons, hidden]
    biases: F64  # [horizons]

    @property
    def hidden(self) -> int:
        return self.cell.hidden

    @property
    def fingerprint(self) -> int:
        """Tells one model from another."""
        own = np.concatenate((self.heads.ravel(), self.biases)).astype(np.float32)
        return zlib.crc32(own.tobytes(), self.cell.fingerprint)

    @staticmethod
    def scaled(rate: float, scale: float) -> float:
        """What the cell reads."""
        return min(rate / scale - 1, _LARGEST)

    def step(self, x: float, hidden: F64, cell: F64) -> tuple[F64, F64]:
        return lstm_step(self.cell, x, hidden, cell)

    def read(self, hidden: F64, ahead: int) -> float:
        """The forecast, so many blocks ahead."""
        return float(np.interp(ahead, HORIZONS, self.heads @ hidden + self.biases))


def shipped() -> LoadLstm:
    """The one that comes with the package."""
    folder = resources.files("layerwatch.detectors") / "shipped"
    return from_bytes((folder / FILE_NAME).read_bytes())


def to_bytes(model: LoadLstm) -> bytes:
    arrays = {
        "input": model.cell.input,
        "recurrent": model.cell.recurrent,
        "bias": model.cell.bias,
        "heads": model.heads,
        "biases": model.biases,
    }
    return bytes(save({name: np.ascontiguousarray(a, np.float32) for name, a in arrays.items()}))


def from_bytes(data: bytes) -> LoadLstm:
    """What `to_bytes` gave. Raises InvalidRecord (`model_shape`) for anything else."""
    try:
        a = {name: array.astype(np.float64) for name, array in load(data).items()}
        hidden = a["heads"].shape[1]
        fits = {"input": (4 * hidden,), "recurrent": (4 * hidden, hidden), "bias": (4 * hidden,)}
        fits |= {"heads": (len(HORIZONS), hidden), "biases": (len(HORIZONS),)}
        wrong = [
            name for name, shape in fits.items() if a[name].shape != shape or not np.isfinite(a[name]).all()
        ]
    except (SafetensorError, ValueError, KeyError, IndexError) as error:
        raise InvalidRecord("model_shape", f"no LSTM of load: {error}") from error
    if wrong:
        raise InvalidRecord("model_shape", f"the LSTM's {', '.join(wrong)} do not belong to the rest")
    unused = np.zeros(hidden)
    cell = LstmWeights(a["input"], a["recurrent"], a["bias"], unused, 0.0, 1.0)
    return LoadLstm(cell, a["heads"], a["biases"])
