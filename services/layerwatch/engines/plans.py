"""Opens what people name: a plan, or what an inspector has printed of one."""

from __future__ import annotations

import gzip
import zlib
from pathlib import Path
from typing import Any

from layerwatch.schemas.errors import ConfigError, Unavailable


def tensorrt() -> Any:
    """The user's own TensorRT; raises Unavailable."""
    try:
        import tensorrt as trt
    except (ImportError, OSError) as error:
        raise Unavailable(
            f"TensorRT cannot be loaded ({error}): run this where your runtime runs, with its Python"
        ) from error
    return trt


def load(plan: Path, trt: Any) -> Any:
    """The engine of a plan, on the current GPU; raises ConfigError where the file is none that can be read here.

    The CUDA driver must be there: without one TensorRT would end the process.
    """
    try:
        data = plan.read_bytes()
    except OSError as error:
        raise ConfigError(f"{plan} cannot be read: {error.strerror}") from error
    log = trt.Logger(trt.Logger.ERROR)
    engine = trt.Runtime(log).deserialize_cuda_engine(data)
    if engine is None:
        raise ConfigError(
            f"{plan} is no plan that TensorRT {trt.__version__} on this GPU can read: name one that was built with this "
            "version and for this GPU, or build one with `layerwatch engine build`"
        )
    return engine


def inspected_text(file: Path) -> str:
    """Of a file that holds an inspector's JSON (trtexec --exportLayerInfo), as it is or gzipped; raises ConfigError."""
    try:
        data = file.read_bytes()
        return (gzip.decompress(data) if data[:2] == b"\x1f\x8b" else data).decode("utf-8", "surrogateescape")
    except (OSError, EOFError, zlib.error) as error:
        raise ConfigError(f"{file} cannot be read: {error}") from error


def is_inspected(file: Path) -> bool:
    """By its name."""
    return file.name.endswith((".json", ".json.gz"))
