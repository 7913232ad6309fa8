"""Calibrated ranges of tensors: from a calibration cache, or from the Q/DQ nodes of the model."""

from __future__ import annotations

import math
import struct
from pathlib import Path
from typing import Any

from layerwatch.schemas.errors import ConfigError

#: INT8 codes run to 127: a scale times this is the largest value that is told apart.
_INT8_MOST = 127.0


def read_cache(path: Path) -> dict[str, float]:
    """Largest magnitude by tensor, of a calibration cache as TensorRT's calibrators and `trtexec --calib` have it.

    Its first line names TensorRT's version and the calibrator; then `NAME: SCALE`, the scale as big-endian hexadecimal
    float32. Raises ConfigError where it is none.
    """
    try:
        lines = path.read_text(encoding="utf-8").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError(f"{path} is no calibration cache that can be read: {error}") from error
    found: dict[str, float] = {}
    for number, line in enumerate(lines[1:], 2):
        name, separator, scale = line.rpartition(": ")
        if not line.strip():
            continue
        try:
            if not separator:
                raise ValueError("no colon")
            amax = struct.unpack(">f", bytes.fromhex(scale.strip().zfill(8)))[0] * _INT8_MOST
        except (ValueError, struct.error) as error:
            raise ConfigError(
                f"{path}, line {number}: {line[:80]!r} is not NAME: SCALE as a calibration cache has it"
            ) from error
        if math.isfinite(amax) and amax > 0:
            found[name] = amax
    if not found:
        raise ConfigError(f"{path} holds no scale: name the cache that your INT8 calibrator has written")
    return found


def set_ranges(network: Any, ranges: dict[str, float]) -> int:
    """Give each tensor of a network its range; how many were given one. TensorRT before 11."""
    given = 0
    for tensor in _tensors(network):
        amax = ranges.get(tensor.name)
        if amax is not None:
            tensor.dynamic_range = (-amax, amax)
            given += 1
    return given


def quantized(network: Any, trt: Any) -> dict[str, float]:
    """Largest magnitude by tensor, of those that a QuantizeLinear node with one constant scale quantizes."""
    constants: dict[str, Any] = {}
    found: dict[str, float] = {}
    for layer in _layers(network):
        if layer.type == trt.LayerType.CONSTANT:
            constants[layer.get_output(0).name] = layer
        elif layer.type == trt.LayerType.QUANTIZE:
            scale = _constant(constants.get(layer.get_input(1).name), trt)
            if scale is not None:
                found[layer.get_input(0).name] = scale * _INT8_MOST
    return found


def has_quantize(network: Any, trt: Any) -> bool:
    """Whether the model itself says what is quantized."""
    return any(layer.type == trt.LayerType.QUANTIZE for layer in _layers(network))


def _constant(layer: Any, trt: Any) -> float | None:
    """The one value of a constant layer; None for several, as weights have them."""
    if layer is None:
        return None
    layer.__class__ = trt.IConstantLayer  # the network hands out plain layers
    weights = layer.weights
    return float(weights.item()) if weights.size == 1 else None


def _layers(network: Any) -> list[Any]:
    return [network.get_layer(i) for i in range(network.num_layers)]


def _tensors(network: Any) -> list[Any]:
    inputs = [network.get_input(i) for i in range(network.num_inputs)]
    return inputs + [layer.get_output(i) for layer in _layers(network) for i in range(layer.num_outputs)]
