"""The recorder on TensorRT's own IProfiler class, where a wheel of it is installed (it needs no GPU for that)."""

from __future__ import annotations

import gc
from typing import Any

import pytest

from layerwatch.probe.twin import recorder_class
from layerwatch.schemas.samples import MAX_LAYERS


@pytest.fixture(scope="module")
def trt() -> Any:
    pytest.importorskip("tensorrt_lean_libs", reason="pip install tensorrt-lean-cu13-bindings ...-libs")
    return pytest.importorskip("tensorrt_lean_bindings")


def test_tensorrts_own_calls_reach_the_recorder_in_order(trt: Any) -> None:
    recorder = recorder_class(trt)()
    for number in range(427):  # as the library calls it: by the vtable of its C++ class
        trt.IProfiler.report_layer_time(recorder, f"layer {number}", number / 8)
    assert recorder.times_ms.tolist() == [number / 8 for number in range(427)]
    assert recorder.names == [f"layer {number}" for number in range(427)]
    recorder.naming = False
    recorder.clear()
    trt.IProfiler.report_layer_time(recorder, "a", 1.0)
    assert (recorder.times_ms.tolist(), recorder.names) == ([1.0], [])


def test_what_it_keeps_is_bounded_and_it_is_freed_with_its_twin(trt: Any) -> None:
    made = recorder_class(trt)
    recorder = made()
    for _ in range(MAX_LAYERS + 10):
        trt.IProfiler.report_layer_time(recorder, "a", 1.0)
    assert len(recorder.times_ms) == MAX_LAYERS
    del recorder
    gc.collect()
    assert not [found for found in gc.get_objects() if type(found) is made]


def test_the_context_class_has_all_that_a_twin_is_given(trt: Any) -> None:
    for name in (
        "active_optimization_profile",
        "enqueue_emits_profile",
        "execute_async_v3",
        "get_input_consumed_event",
        "get_output_allocator",
        "get_tensor_address",
        "get_tensor_shape",
        "nvtx_verbosity",
        "profiler",
        "report_to_profiler",
        "set_input_consumed_event",
        "set_input_shape",
        "set_optimization_profile_async",
        "set_output_allocator",
        "set_tensor_address",
    ):
        assert hasattr(trt.IExecutionContext, name), name
    for name in (
        "create_engine_inspector",
        "create_execution_context",
        "get_tensor_mode",
        "get_tensor_name",
        "get_tensor_shape",
        "num_io_tensors",
        "num_optimization_profiles",
    ):
        assert hasattr(trt.ICudaEngine, name), name
    assert any(hasattr(trt.ICudaEngine, name) for name in ("device_memory_size_v2", "device_memory_size"))
    assert hasattr(trt, "LayerInformationFormat")
    assert hasattr(trt, "ProfilingVerbosity")
