"""In the runtime's process: times executions, and samples their layers. Standard library, msgspec, the user's TensorRT."""

from layerwatch.probe.probe import Probe

__all__ = ["Probe"]
