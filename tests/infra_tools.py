"""Programs that check what lies in infra/: `make tools` fetches them. A test that finds none of them skips."""

from __future__ import annotations

import os
import shutil
import subprocess
from pathlib import Path

import pytest
from brokers import STATE_DIR

_HOME = STATE_DIR / "tools"


def helm() -> str:
    return _found("helm", shutil.which("helm"), _HOME / "bin" / "helm")


def kubernetes_validate() -> str:
    name = "kubernetes-validate"
    return _found(name, shutil.which(name), _HOME / "python" / "bin" / name)


def docker_compose() -> str:
    packaged = next(_HOME.glob("python/lib/python3*/site-packages/compose/docker-compose"), None)
    if packaged is not None:
        packaged.chmod(0o755)
    return _found("docker-compose", None, packaged)


def run(*command: str, cwd: Path | None = None) -> str:
    """Its standard output; fails the test with all that it said when it ends badly."""
    done = subprocess.run(command, cwd=cwd, capture_output=True, text=True, check=False, env=_environment())
    assert done.returncode == 0, f"{' '.join(command)}\n{done.stdout}{done.stderr}"
    return done.stdout


def _environment() -> dict[str, str]:
    """Ours without our settings: compose would take them for its own variables."""
    return {name: value for name, value in os.environ.items() if not name.startswith("LAYERWATCH_")}


def _found(name: str, installed: str | None, fetched: Path | None) -> str:
    if installed:
        return installed
    if fetched is not None and fetched.exists():
        return str(fetched)
    pytest.skip(f"{name} is neither installed nor fetched: run `make tools` (it needs Go)")
