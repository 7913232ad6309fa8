"""Kafka's jars: fetched once with Maven, whole or not at all. `python -m layerwatch.broker.jars DIR` fetches them."""

from __future__ import annotations

import hashlib
import logging
import re
import shutil
import subprocess
import sys
from pathlib import Path

from layerwatch.broker import files
from layerwatch.schemas.errors import LayerwatchError, Unavailable

#: Oldest Java that runs this Kafka.
JAVA_MAJOR = 17
#: In the folder of jars: the sha256 of the pom.xml that they were fetched for.
MARKER = ".whole"
_FETCH_TIMEOUT_S = 900

_log = logging.getLogger(__name__)


def present(libs: Path) -> bool:
    """Whether all jars of the pom.xml at hand are in `libs`."""
    marker = libs / MARKER
    return marker.is_file() and marker.read_text() == _digest()


def ensure(libs: Path) -> None:
    """Fetch the jars into `libs` unless they are there; raises Unavailable saying what to install."""
    if present(libs):
        return
    if shutil.which("mvn") is None:
        raise Unavailable(
            "Maven is missing, which fetches Kafka: apt-get install maven, "
            "or set LAYERWATCH_KAFKA__BOOTSTRAP to a cluster of yours"
        )
    _log.info("fetching Kafka's jars to %s", libs)
    part = libs.with_name(libs.name + ".part")
    shutil.rmtree(part, ignore_errors=True)
    part.mkdir(parents=True)
    _maven(part)
    (part / MARKER).write_text(_digest())
    shutil.rmtree(libs, ignore_errors=True)
    part.rename(libs)


def java_major() -> int | None:
    """Major version of the `java` on the path; None where there is none."""
    if shutil.which("java") is None:
        return None
    said = subprocess.run(["java", "-version"], capture_output=True, text=True, check=False).stderr
    found = re.search(r'version "(?:1\.)?(\d+)', said)
    return int(found[1]) if found else None


def require_java() -> None:
    """Raise Unavailable unless there is a Java that runs Kafka."""
    major = java_major()
    if major is None or major < JAVA_MAJOR:
        has = "Java is missing" if major is None else f"Java {major} is too old"
        raise Unavailable(
            f"{has}: Kafka needs Java {JAVA_MAJOR} or later (apt-get install openjdk-17-jre-headless), "
            "or set LAYERWATCH_KAFKA__BOOTSTRAP to a cluster of yours"
        )


def _maven(target: Path) -> None:
    argv = ["mvn", "-q", "-B", "-f", str(files.find("pom.xml")), "dependency:copy-dependencies"]
    argv += ["-DincludeScope=runtime", f"-DoutputDirectory={target.resolve()}"]
    try:
        done = subprocess.run(argv, capture_output=True, text=True, timeout=_FETCH_TIMEOUT_S, check=False)
    except subprocess.TimeoutExpired as error:
        raise Unavailable(
            f"Maven did not finish in {_FETCH_TIMEOUT_S} s: check its mirror and proxy"
        ) from error
    if done.returncode:
        last = "\n".join((done.stdout + done.stderr).strip().splitlines()[-10:])
        raise Unavailable(f"Maven could not fetch Kafka: check its mirror and proxy, then try again\n{last}")


def _digest() -> str:
    return hashlib.sha256(files.find("pom.xml").read_bytes()).hexdigest()


if __name__ == "__main__":
    try:
        ensure(Path(sys.argv[1]))
    except LayerwatchError as problem:
        sys.exit(f"layerwatch: {problem}")
