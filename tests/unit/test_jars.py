"""Fetching Kafka: whole or not at all, with a stand-in for Maven."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from layerwatch.broker import jars
from layerwatch.schemas.errors import Unavailable


def _put(folder: Path, name: str, script: str) -> None:
    (folder / name).write_text(f"#!/bin/sh\n{script}\n")
    (folder / name).chmod(0o755)


@pytest.fixture
def programs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The only folder on the path, beside the system's own tools."""
    folder = tmp_path / "programs"
    folder.mkdir()
    monkeypatch.setenv("PATH", str(folder))
    return folder


FETCH = 'for last; do :; done; echo jar > "${last#-DoutputDirectory=}/kafka.jar"'


def test_jars_are_fetched_once_and_anew_for_another_version(programs: Path, tmp_path: Path) -> None:
    libs = tmp_path / "libs"
    _put(programs, "mvn", FETCH)
    assert not jars.present(libs)
    jars.ensure(libs)
    assert jars.present(libs)
    _put(programs, "mvn", "exit 1")
    jars.ensure(libs)
    (libs / jars.MARKER).write_text("of another pom.xml")
    assert not jars.present(libs)
    _put(programs, "mvn", FETCH)
    jars.ensure(libs)
    assert jars.present(libs)


def test_an_interrupted_fetch_is_not_taken_for_a_whole_one(programs: Path, tmp_path: Path) -> None:
    libs = tmp_path / "libs"
    _put(programs, "mvn", f"{FETCH}; echo connection reset >&2; exit 1")
    with pytest.raises(Unavailable, match=r"(?s)mirror and proxy.*connection reset"):
        jars.ensure(libs)
    assert not jars.present(libs)
    assert not libs.exists()
    _put(programs, "mvn", FETCH)
    jars.ensure(libs)
    assert jars.present(libs)


@pytest.mark.usefixtures("programs")
def test_without_maven_it_says_what_to_install(tmp_path: Path) -> None:
    with pytest.raises(Unavailable, match="apt-get install maven"):
        jars.ensure(tmp_path / "libs")


@pytest.mark.parametrize(
    ("said", "problem"),
    [
        ('openjdk version "17.0.15" 2025-04-15', None),
        ('openjdk version "21" 2023-09-19', None),
        ('java version "1.8.0_401"', "Java 8 is too old"),
        ('openjdk version "11.0.2" 2019-01-15', "Java 11 is too old"),
        (None, "Java is missing"),
    ],
)
def test_java_must_be_17_or_later(programs: Path, said: str | None, problem: str | None) -> None:
    if said is not None:
        _put(programs, "java", f"echo '{said}' >&2")
    if problem is None:
        jars.require_java()
    else:
        with pytest.raises(Unavailable, match=re.escape(problem)):
            jars.require_java()
