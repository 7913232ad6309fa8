"""What runs beside a TensorRT runtime stays light, and installs on the Python that the runtimes have."""

from __future__ import annotations

import shutil
import subprocess
import sys
from pathlib import Path

import pytest

HEAVY = ("numpy", "sklearn", "torch", "faust", "aiokafka", "pyarrow")
CHECKOUT = Path(__file__).resolve().parents[2]
UV = Path(sys.executable).with_name("uv")


@pytest.mark.parametrize("module", ["layerwatch.agent.server", "layerwatch.probe", "layerwatch.engines"])
def test_importing_it_loads_no_numerics_and_no_faust(module: str) -> None:
    code = f"import sys, {module}; print(*sorted(set({HEAVY!r}) & set(sys.modules)))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.split() == []


def _python310() -> str:
    """An interpreter of 3.10. uv gives up on a pyenv shim without a version behind it, so those are looked up too."""
    found = subprocess.run([UV, "python", "find", "3.10"], capture_output=True, text=True, check=False)
    if found.returncode == 0:
        return found.stdout.strip()
    for path in sorted(Path.home().glob(".pyenv/versions/3.10*/bin/python")):
        return str(path)
    pytest.skip("no Python 3.10 on this machine")


def test_the_agent_installs_on_python_310_without_numerics_and_has_the_command_line(tmp_path: Path) -> None:
    venv = tmp_path / "venv"
    python = venv / "bin" / "python"
    subprocess.run([UV, "venv", "-q", "--python", _python310(), venv], check=True)
    subprocess.run([UV, "pip", "install", "-q", "--python", python, f"{CHECKOUT}[agent]"], check=True)

    code = "import sys, layerwatch.agent.server, layerwatch.probe, layerwatch.hosting.kafka; print(sys.version_info[:2])"
    imported = subprocess.run([python, "-c", code], capture_output=True, text=True, check=True, cwd=tmp_path)
    assert imported.stdout.strip() == "(3, 10)"
    shown = subprocess.run(
        [venv / "bin" / "layerwatch", "--help"], capture_output=True, text=True, check=True
    )
    assert "broker" in shown.stdout
    for command in ("doctor", "agent", "engine"):  # all that is used beside a runtime
        subprocess.run([venv / "bin" / "layerwatch", command, "--help"], capture_output=True, check=True)
    compiled = (
        "import os, sysconfig; from layerwatch.probe import usual; "
        "print(usual.COMPILED, os.path.exists(sysconfig.get_path('include') + '/Python.h'))"
    )
    told = subprocess.run([python, "-c", compiled], capture_output=True, text=True, check=True, cwd=tmp_path)
    is_compiled, has_headers = (word == "True" for word in told.stdout.split())
    assert is_compiled == (has_headers and shutil.which("cc") is not None)
    assert list(venv.glob("lib/python3.10/site-packages/layerwatch/broker/kafka/server.properties"))
    installed = {path.name for path in venv.glob("lib/python3.10/site-packages/*")}
    assert installed.isdisjoint(HEAVY)
