"""Builds a plan from an ONNX model as the probe likes it: detailed names, and profiles that several contexts can share."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from layerwatch.engines import ranges
from layerwatch.hosting.files import replace_whole
from layerwatch.schemas.build_notes import BuildNotes, ProfileShapes, file_sha256, notes_path
from layerwatch.schemas.codec import encode_json
from layerwatch.schemas.engines import TensorRange
from layerwatch.schemas.errors import ConfigError, LayerwatchError

PRECISIONS = ("fp32", "fp16", "int8")
#: Precision of a build whose model says it itself: all there is from TensorRT 11 on.
TYPED = "typed"
_WORKSPACE_BYTES = 4 << 30


class BuildFailed(LayerwatchError):
    """Raised where TensorRT builds nothing; has its own words."""


class Extent(NamedTuple):
    """Least, usual and largest value of a dimension; the usual one is what kernels are chosen for."""

    least: int
    usual: int
    most: int


class Wanted(NamedTuple):
    """What to build. `lengths` are the profiles: one each, of all dimensions that change but the first."""

    model: Path
    batch: Extent | None = None
    lengths: Sequence[Extent] = ()
    verbosity: str = "detailed"  # or layer_names_only, none
    calibration: Path | None = None
    tactic_sources: Sequence[str] = ()  # names of tensorrt.TacticSource; none: TensorRT's own choice
    optimization_level: int | None = None  # 0 (quick to build) to 5


def precisions(trt: Any, asked: Sequence[str]) -> tuple[str, ...]:
    """What this TensorRT can be told; raises ConfigError where it takes precisions from the model alone."""
    typed = not hasattr(trt.BuilderFlag, "FP16")
    if typed and asked:
        raise ConfigError(
            f"TensorRT {trt.__version__} takes precisions from the model: convert it (ModelOpt's AutoCast for FP16, "
            "its quantization for INT8), and build each without --precision"
        )
    return (TYPED,) if typed else tuple(asked) or ("fp16",)


def extent(text: str) -> Extent:
    """Of `MIN:USUAL:MAX`, or `MIN:MAX` (usual is the largest), or one number; raises ConfigError."""
    try:
        numbers = [int(part) for part in text.split(":")]
    except ValueError:
        numbers = []
    if len(numbers) == 1:
        numbers *= 3
    elif len(numbers) == 2:
        numbers = [numbers[0], numbers[1], numbers[1]]
    if len(numbers) != 3 or not 1 <= numbers[0] <= numbers[1] <= numbers[2]:
        raise ConfigError(f"{text!r} is no range: write MIN:USUAL:MAX, such as 1:128:512")
    return Extent(*numbers)


def build(wanted: Wanted, precision: str, plan: Path, trt: Any) -> BuildNotes:
    """Build into `plan`, and notes beside it; takes minutes. Raises ConfigError and BuildFailed."""
    log = _log(trt)
    builder = trt.Builder(log)
    explicit = getattr(trt.NetworkDefinitionCreationFlag, "EXPLICIT_BATCH", None)
    network = builder.create_network(0 if explicit is None else 1 << int(explicit))
    parser = trt.OnnxParser(network, log)
    if not parser.parse_from_file(str(wanted.model)):
        errors = "; ".join(str(parser.get_error(i)) for i in range(parser.num_errors))
        raise BuildFailed(f"TensorRT cannot parse {wanted.model}: {errors or 'its log says no more'}")
    config = builder.create_builder_config()
    _configure(config, wanted, trt)
    known = _set_precision(config, network, precision, wanted.calibration, trt)
    profiles = _add_profiles(builder, config, network, wanted)
    serialized = builder.build_serialized_network(network, config)
    if serialized is None:
        raise BuildFailed(f"TensorRT built nothing of {wanted.model} in {precision}: {log.words()}")
    replace_whole(plan, bytes(serialized))
    notes = BuildNotes(
        plan_sha256=file_sha256(plan),
        model=wanted.model.name,
        model_sha256=file_sha256(wanted.model),
        tensorrt=str(trt.__version__),
        precision=precision,
        profiles=profiles,
        ranges=[TensorRange(name, amax) for name, amax in sorted(known.items())],
    )
    replace_whole(notes_path(plan), encode_json(notes))
    return notes


def profile_shapes(
    dims: Mapping[str, Sequence[int]], batch: Extent | None, lengths: Sequence[Extent]
) -> list[list[ProfileShapes]]:
    """Shapes of each input by profile; -1 is a dimension that changes. None where nothing does.

    Raises ConfigError where a range is missing, or given for nothing.
    """
    moving_batch = [name for name, shape in dims.items() if shape and shape[0] < 0]
    moving_length = [name for name, shape in dims.items() if any(d < 0 for d in shape[1:])]
    for needed, given, option, example in (
        (moving_batch, batch, "--batch", "1:1:8"),
        (moving_length, lengths, "--length", "1:128:512"),
    ):
        if needed and not given:
            raise ConfigError(
                f"input {needed[0]} {tuple(dims[needed[0]])} has a dimension that changes: add {option} {example}"
            )
        if given and not needed:
            raise ConfigError(f"no input has a dimension that {option} is for: leave it out")
    if not moving_batch and not moving_length:
        return []
    fixed = Extent(1, 1, 1)
    return [
        [
            ProfileShapes(name, *(_filled(shape, (batch or fixed)[i], length[i]) for i in range(3)))
            for name, shape in dims.items()
        ]
        for length in lengths or (fixed,)
    ]


def _filled(shape: Sequence[int], batch: int, length: int) -> list[int]:
    return [d if d >= 0 else batch if axis == 0 else length for axis, d in enumerate(shape)]


def _configure(config: Any, wanted: Wanted, trt: Any) -> None:
    config.set_memory_pool_limit(trt.MemoryPoolType.WORKSPACE, _WORKSPACE_BYTES)
    config.profiling_verbosity = getattr(trt.ProfilingVerbosity, wanted.verbosity.upper())
    if wanted.optimization_level is not None:
        config.builder_optimization_level = wanted.optimization_level
    if hasattr(trt.PreviewFeature, "PROFILE_SHARING_0806"):
        config.set_preview_feature(trt.PreviewFeature.PROFILE_SHARING_0806, True)
    if wanted.tactic_sources:
        known = trt.TacticSource.__members__
        unknown = [name for name in wanted.tactic_sources if name not in known]
        if unknown:
            raise ConfigError(
                f"{unknown[0]} is no tactic source of TensorRT {trt.__version__}: {', '.join(known)}"
            )
        config.set_tactic_sources(sum(1 << int(known[name]) for name in set(wanted.tactic_sources)))


def _set_precision(
    config: Any, network: Any, precision: str, calibration: Path | None, trt: Any
) -> dict[str, float]:
    """The calibrated ranges by tensor, as far as they are known."""
    known = ranges.quantized(network, trt)
    if precision in ("fp16", "int8"):
        config.set_flag(trt.BuilderFlag.FP16)
    if precision == "int8":
        config.set_flag(trt.BuilderFlag.INT8)
        if ranges.has_quantize(network, trt):
            return known
        if calibration is None:
            raise ConfigError(
                "the model has no QuantizeLinear nodes, so INT8 needs ranges: add --calibration FILE (a cache as your "
                "INT8 calibrator or trtexec --calib writes it), or quantize the model (ModelOpt) first"
            )
        cached = ranges.read_cache(calibration)
        if not ranges.set_ranges(network, cached):
            raise ConfigError(f"{calibration} names no tensor of this model: calibrate this very model")
        known |= cached
    return known


def _add_profiles(builder: Any, config: Any, network: Any, wanted: Wanted) -> list[list[ProfileShapes]]:
    inputs = [network.get_input(i) for i in range(network.num_inputs)]
    dims = {str(tensor.name): tuple(tensor.shape) for tensor in inputs}
    profiles = profile_shapes(dims, wanted.batch, wanted.lengths)
    for shapes in profiles:
        profile = builder.create_optimization_profile()
        for shape in shapes:
            profile.set_shape(shape.input, shape.least, shape.usual, shape.most)
        if config.add_optimization_profile(profile) < 0:
            raise BuildFailed(f"TensorRT refused the profile {shapes}")
    return profiles


def _log(trt: Any) -> Any:
    """A logger that remembers the last errors."""

    class Log(trt.ILogger):  # type: ignore[misc]
        def __init__(self) -> None:
            trt.ILogger.__init__(self)
            self._errors: list[str] = []

        def log(self, severity: Any, msg: str) -> None:
            if severity in (trt.ILogger.ERROR, trt.ILogger.INTERNAL_ERROR):
                self._errors = [*self._errors[-4:], msg.strip()]

        def words(self) -> str:
            return " | ".join(self._errors) or "it gave no reason"

    return Log()
