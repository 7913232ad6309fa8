"""Prometheus and Alertmanager as Debian packages, unpacked inside this folder: no root, nothing installed."""

from __future__ import annotations

import fcntl
import shutil
import subprocess
from functools import cache
from pathlib import Path

import pytest
from brokers import STATE_DIR

_HOME = STATE_DIR / "debian"
#: Programs by the package that has them.
_PACKAGES = {
    "prometheus": "prometheus",
    "promtool": "prometheus",
    "prometheus-alertmanager": "prometheus-alertmanager",
    "amtool": "prometheus-alertmanager",
}
#: Where Debian's Alertmanager looks for them.
_TEMPLATES = "/usr/share/prometheus/alertmanager"


@cache
def program(name: str) -> Path:
    """The path of a program: installed, unpacked before, or fetched now. Skips the test where it cannot be had."""
    installed = shutil.which(name)
    if installed:
        return Path(installed)
    unpacked = _HOME / "usr" / "bin" / name
    _HOME.mkdir(parents=True, exist_ok=True)
    with (_HOME / "lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not unpacked.exists():
            _fetch(_PACKAGES[name])
    return unpacked


def _fetch(package: str) -> None:
    if shutil.which("apt-get") is None or shutil.which("dpkg-deb") is None:
        pytest.skip(f"{package} is not installed, and without apt-get and dpkg-deb it cannot be fetched")
    try:
        _run("apt-get", "download", package)
    except subprocess.SubprocessError:
        _fetch_without_lists(package)
    (archive,) = _HOME.glob(f"{package}_*.deb")
    _run("dpkg-deb", "--extract", archive.name, ".")
    if package == "prometheus-alertmanager":
        _read_templates_here(_HOME / "usr" / "bin" / package)


def templates() -> list[Path]:
    """Alertmanager's own templates, which must lie in the folder where an unpacked one is started."""
    program("prometheus-alertmanager")
    return [*Path(_TEMPLATES).glob("*.tmpl")] or [*(_HOME / _TEMPLATES[1:]).glob("*.tmpl")]


def _read_templates_here(binary: Path) -> None:
    """Debian's Alertmanager opens its templates in a folder that only root could make: now in its working folder."""
    folder = _TEMPLATES.encode()
    here = (b"./" * len(folder))[: len(folder)]
    binary.write_bytes(binary.read_bytes().replace(folder, here))


def _fetch_without_lists(package: str) -> None:
    """On a machine that has never asked which packages there are: ask into a folder of our own."""
    for folder in ("lists/partial", "archives/partial"):
        (_HOME / folder).mkdir(parents=True, exist_ok=True)
    own = (f"-oDir::State::lists={_HOME}/lists", f"-oDir::Cache={_HOME}", "-oAPT::Sandbox::User=")
    try:
        _run("apt-get", *own, "update")
        _run("apt-get", *own, "download", package)
    except subprocess.SubprocessError as error:
        pytest.skip(f"{package} is not installed, and apt-get download failed: {error}")


def _run(*command: str) -> None:
    subprocess.run(command, cwd=_HOME, check=True, capture_output=True, timeout=120)
