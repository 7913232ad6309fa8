"""Writes the generated modules anew from externalscaler.proto; needs grpcio-tools, which `make setup` brings."""

from __future__ import annotations

import sys
from pathlib import Path

from grpc_tools import protoc

_ROOT = Path(__file__).resolve().parents[3]
_FILE = "layerwatch/scaler/proto/externalscaler.proto"


def write(out: Path = _ROOT) -> int:
    """The compiler's exit status."""
    status: int = protoc.main(["protoc", f"-I{_ROOT}", f"--python_out={out}", f"--pyi_out={out}", _FILE])
    return status


if __name__ == "__main__":
    sys.exit(write())
