"""Build an engine as the probe likes it: detailed names, and contexts that share a profile. `build_plan.py ONNX PLAN`

One dynamic-shape profile over all inputs: batch 1 to 8, length 1 to 512. For TensorRT 8.6 without cuBLAS and cuDNN.
"""

from __future__ import annotations

import sys
from pathlib import Path

import tensorrt as trt


def main(onnx: str, plan: str) -> None:
    logger = trt.Logger(trt.Logger.WARNING)
    builder = trt.Builder(logger)
    explicit = getattr(trt.NetworkDefinitionCreationFlag, "EXPLICIT_BATCH", None)
    network = builder.create_network(0 if explicit is None else 1 << int(explicit))
    parser = trt.OnnxParser(network, logger)
    if not parser.parse_from_file(onnx):
        sys.exit("\n".join(str(parser.get_error(i)) for i in range(parser.num_errors)))
    config = builder.create_builder_config()
    config.set_memory_pool_limit(trt.MemoryPoolType.WORKSPACE, 4 << 30)
    config.profiling_verbosity = trt.ProfilingVerbosity.DETAILED
    config.builder_optimization_level = 2
    if hasattr(trt.BuilderFlag, "FP16"):
        config.set_flag(trt.BuilderFlag.FP16)
    if hasattr(trt.PreviewFeature, "PROFILE_SHARING_0806"):
        config.set_preview_feature(trt.PreviewFeature.PROFILE_SHARING_0806, True)
    sources = trt.TacticSource
    config.set_tactic_sources(1 << int(sources.EDGE_MASK_CONVOLUTIONS) | 1 << int(sources.JIT_CONVOLUTIONS))
    profile = builder.create_optimization_profile()
    for number in range(network.num_inputs):
        profile.set_shape(network.get_input(number).name, (1, 1), (1, 128), (8, 512))
    config.add_optimization_profile(profile)
    serialized = builder.build_serialized_network(network, config)
    if serialized is None:
        sys.exit("TensorRT built nothing: its log says why")
    Path(plan).write_bytes(bytes(serialized))


if __name__ == "__main__":
    main(*sys.argv[1:])
