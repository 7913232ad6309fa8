"""In the runtime's process: times executions, and samples their layers. Standard library, msgspec, the user's TensorRT."""

from layerwatch.probe.engine_switch import EngineSwitch
from layerwatch.probe.probe import Probe

__all__ = ["EngineSwitch", "Probe"]
