"""The kill switch that needs no Kafka."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from layerwatch.hosting.kill_switch import KillSwitch


def test_what_is_switched_off_is_told_with_its_reason_until_it_is_taken_back(tmp_path: Path) -> None:
    switch = KillSwitch(tmp_path)
    assert switch.killed() == {}
    switch.kill("bert-qa", "wrong signal")
    switch.kill("*", "incident 7")
    assert KillSwitch(tmp_path).killed() == {"bert-qa": "wrong signal", "*": "incident 7"}
    assert switch.resume("bert-qa")
    assert not switch.resume("bert-qa")
    assert switch.killed() == {"*": "incident 7"}


def test_a_person_can_do_it_with_touch(tmp_path: Path) -> None:
    (tmp_path / "kill" / "services").mkdir(parents=True)
    (tmp_path / "kill" / "services" / "bert-qa").touch()
    assert KillSwitch(tmp_path).killed() == {"bert-qa": "no reason given"}


def test_a_switch_that_cannot_be_read_is_on(tmp_path: Path) -> None:
    (tmp_path / "kill" / "all").mkdir(parents=True)
    assert list(KillSwitch(tmp_path).killed()) == ["*"]


@given(name=st.text(min_size=1, max_size=40).filter(lambda name: name != "*"))
def test_any_name_of_a_service_is_kept_apart(tmp_path_factory: pytest.TempPathFactory, name: str) -> None:
    try:
        name.encode()
    except UnicodeEncodeError:  # no service: a key of Kafka is UTF-8
        return
    folder = tmp_path_factory.mktemp("switch")
    switch = KillSwitch(folder)
    switch.kill(name, "x")
    assert switch.killed() == {name: "x"}
    assert switch.resume(name)
