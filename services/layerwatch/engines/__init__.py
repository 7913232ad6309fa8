"""TensorRT engines before and while they serve: build, inspect, a context for each profile, what the probe costs on them."""

from layerwatch.engines.context_pool import ContextPool

__all__ = ["ContextPool"]
