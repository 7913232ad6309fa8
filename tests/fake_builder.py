"""A fake of TensorRT's builder: it parses a model that is JSON, keeps what it is told, and builds a plan that is JSON too."""

from __future__ import annotations

import json
from enum import Enum, IntEnum
from pathlib import Path
from types import SimpleNamespace
from typing import Any


class _Kind(Enum):
    CONSTANT = 1
    QUANTIZE = 2
    CONVOLUTION = 3


class _Source(IntEnum):
    CUBLAS = 0
    EDGE_MASK_CONVOLUTIONS = 3
    JIT_CONVOLUTIONS = 4


class _Logger:
    ERROR, INTERNAL_ERROR = 1, 0


class _Layer:
    """Of a model: kind, inputs, outputs, and its value where it is a constant."""

    def __init__(self, found: dict[str, Any], tensors: dict[str, Any]) -> None:
        self.type = _Kind[found["type"]]
        self.weights = _Weights(found.get("value", []))
        self._inputs = [tensors.setdefault(name, _tensor(name)) for name in found.get("inputs", [])]
        self._outputs = [tensors.setdefault(name, _tensor(name)) for name in found["outputs"]]
        self.num_outputs = len(self._outputs)

    def get_input(self, index: int) -> Any:
        return self._inputs[index]

    def get_output(self, index: int) -> Any:
        return self._outputs[index]


class _Weights(list[float]):
    @property
    def size(self) -> int:
        return len(self)

    def item(self) -> float:
        (value,) = self
        return value


def _tensor(name: str, shape: tuple[int, ...] = ()) -> Any:
    return SimpleNamespace(name=name, shape=shape, dynamic_range=None)


class _Network:
    def __init__(self) -> None:
        self.tensors: dict[str, Any] = {}
        self._inputs: list[Any] = []
        self._layers: list[_Layer] = []

    def parse(self, model: dict[str, Any]) -> None:
        self.tensors = {name: _tensor(name, tuple(shape)) for name, shape in model["inputs"].items()}
        self._inputs = list(self.tensors.values())
        self._layers = [_Layer(found, self.tensors) for found in model.get("layers", [])]

    num_inputs = property(lambda self: len(self._inputs))
    num_layers = property(lambda self: len(self._layers))

    def get_input(self, index: int) -> Any:
        return self._inputs[index]

    def get_layer(self, index: int) -> _Layer:
        return self._layers[index]


def tensorrt(*, typed: bool = False, builds: bool = True) -> Any:
    """The module; `typed` as from TensorRT 11 on. `builds` False: the builder gives nothing, and logs why."""
    flags = {} if typed else {"FP16": "fp16", "INT8": "int8"}
    preview = {} if typed else {"PROFILE_SHARING_0806": "sharing"}

    class Parser:
        num_errors = 1

        def __init__(self, network: _Network, log: Any) -> None:
            self._network = network

        def parse_from_file(self, path: str) -> bool:
            try:
                self._network.parse(json.loads(Path(path).read_text()))
            except ValueError:
                return False
            return True

        def get_error(self, index: int) -> str:
            return "not an ONNX model"

    class Builder:
        def __init__(self, log: Any) -> None:
            self._log = log

        def create_network(self, flags: int) -> _Network:
            assert flags == (0 if typed else 1)
            return _Network()

        def create_builder_config(self) -> Any:
            return _Config()

        def create_optimization_profile(self) -> Any:
            return _Profile()

        def build_serialized_network(self, network: _Network, config: _Config) -> bytes | None:
            if not builds:
                self._log.log(_Logger.ERROR, "no implementation of node 7")
                return None
            ranges = {t.name: t.dynamic_range for t in network.tensors.values() if t.dynamic_range}
            told = {key: value for key, value in vars(config).items() if not key.startswith("_")}
            return json.dumps(told | {"ranges": ranges}, default=str).encode()

    return SimpleNamespace(
        __version__="11.0.0-fake" if typed else "8.6.0-fake",
        ILogger=_Logger,
        Builder=Builder,
        OnnxParser=Parser,
        LayerType=_Kind,
        IConstantLayer=_Layer,
        TacticSource=_Source,
        BuilderFlag=SimpleNamespace(**flags),
        PreviewFeature=SimpleNamespace(**preview),
        MemoryPoolType=SimpleNamespace(WORKSPACE="workspace"),
        NetworkDefinitionCreationFlag=SimpleNamespace(**({} if typed else {"EXPLICIT_BATCH": 0})),
        ProfilingVerbosity=SimpleNamespace(DETAILED="detailed", NONE="none", LAYER_NAMES_ONLY="names"),
    )


class _Profile:
    def __init__(self) -> None:
        self.shapes: dict[str, Any] = {}

    def set_shape(self, name: str, least: Any, usual: Any, most: Any) -> None:
        self.shapes[name] = [list(least), list(usual), list(most)]


class _Config:
    def __init__(self) -> None:
        self.flags: list[str] = []
        self.profiles: list[Any] = []
        self.preview: list[str] = []
        self.sources: int | None = None

    def set_memory_pool_limit(self, pool: str, size: int) -> None:
        self.workspace = size

    def set_flag(self, flag: str) -> None:
        self.flags.append(flag)

    def set_preview_feature(self, feature: str, on: bool) -> None:
        self.preview.append(feature)

    def set_tactic_sources(self, sources: int) -> None:
        self.sources = sources

    def add_optimization_profile(self, profile: _Profile) -> int:
        self.profiles.append(profile.shapes)
        return len(self.profiles) - 1
