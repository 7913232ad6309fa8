"""A context for each optimization profile, so that no execution has to switch one.

A context that switches its profile computes shapes and tactics anew before its next inference: 26 to 51 ms instead of 3 on an
H200. With a context for each profile, made once, there is nothing to switch; the price is the activation memory of each.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from layerwatch.probe.interfaces import Context, Cuda, Engine

Shapes = Mapping[str, Sequence[int]]


class ContextPool:
    """Of one thread and stream; each thread has a pool of its own. `contexts` is in the order of the profiles."""

    def __init__(self, engine: Engine, stream: int, *, cuda: Cuda | None = None, trt: Any = None) -> None:
        """Takes the device memory of a context for each profile, and waits for `stream`.

        The caller has no other context of the engine, unless profiles are shared: TensorRT 8.6 ends the process where two
        ask for one profile. Raises RuntimeError where TensorRT makes no context or refuses its profile. `cuda` and `trt` stand for the driver
        and the tensorrt module (tests).
        """
        self._ranges = [_ranges(engine, profile, trt or _tensorrt()) for profile in _profiles(engine)]
        self.contexts = [_context(engine, profile, stream) for profile in _profiles(engine)]
        (cuda or _driver()).wait(stream)

    def context(self, shapes: Shapes) -> Context:
        """The context of the first profile that has room for `shapes` (of the inputs, by name), which are set on it.

        Raises ValueError where no profile has, or TensorRT refuses them.
        """
        for context, ranges in zip(self.contexts, self._ranges, strict=True):
            if all(_is_within(shapes.get(name), *bounds) for name, bounds in ranges.items()):
                for name, dims in shapes.items():
                    if not context.set_input_shape(name, tuple(dims)):
                        raise ValueError(f"TensorRT refused the shape {tuple(dims)} of {name}: see its log")
                return context
        held = "; ".join(
            ", ".join(f"{name} {least} to {most}" for name, (least, most) in ranges.items())
            for ranges in self._ranges
        )
        raise ValueError(
            f"no profile has room for {dict(shapes)}: they hold {held}. Build one that does: "
            "`layerwatch engine build --length`"
        )


def _profiles(engine: Engine) -> range:
    return range(max(1, int(engine.num_optimization_profiles)))


def _ranges(engine: Engine, profile: int, trt: Any) -> dict[str, tuple[tuple[int, ...], tuple[int, ...]]]:
    """Least and largest shape of each input."""
    names = [engine.get_tensor_name(i) for i in range(engine.num_io_tensors)]
    found = {}
    for name in names:
        if engine.get_tensor_mode(name) == trt.TensorIOMode.INPUT:
            least, _, most = engine.get_tensor_profile_shape(name, profile)
            found[name] = (tuple(least), tuple(most))
    return found


def _is_within(dims: Sequence[int] | None, least: tuple[int, ...], most: tuple[int, ...]) -> bool:
    return (
        dims is not None
        and len(dims) == len(least)
        and all(low <= d <= high for low, d, high in zip(least, dims, most, strict=True))
    )


def _context(engine: Engine, profile: int, stream: int) -> Context:
    made = engine.create_execution_context()
    if made is None:
        raise RuntimeError(
            f"TensorRT made no context for profile {profile}: its log says why, often too little memory"
        )
    if made.active_optimization_profile != profile and not made.set_optimization_profile_async(
        profile, stream
    ):
        raise RuntimeError(
            f"profile {profile} is in use by another context: with TensorRT before 10, build the engine with "
            "PreviewFeature.PROFILE_SHARING_0806, as `layerwatch engine build` does"
        )
    return made


def _tensorrt() -> Any:
    import tensorrt

    return tensorrt


def _driver() -> Cuda:
    from layerwatch.probe.cuda import CudaDriver

    return CudaDriver()
