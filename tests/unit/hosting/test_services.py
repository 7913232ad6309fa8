"""services.toml: what it says, and what is told of a mistake in it."""

from __future__ import annotations

from pathlib import Path

import pytest

from layerwatch.hosting import services
from layerwatch.hosting.services import Service, load_services
from layerwatch.schemas.errors import ConfigError

GOOD = services.__doc__ or ""


def written(tmp_path: Path, text: str) -> Path:
    path = tmp_path / "services.toml"
    path.write_text(text)
    return path


def test_the_documented_example_says_what_it_says(tmp_path: Path) -> None:
    found = load_services(written(tmp_path, GOOD.partition("\n")[2]))
    service = found.get("bert-qa")
    assert (service.owner, service.mode, service.target_latency_ms) == ("nlp", "enforce", 25)
    assert (service.standby, service.fallback) == ("bert-qa-v1", "fp16")
    assert found.channels["nlp-pager"].severity == "critical"
    assert found.get("another").owner == "platform"
    assert found.get("another").mode is None


def test_without_a_file_nothing_is_said() -> None:
    assert load_services(None).get("any") == Service()


def test_a_service_takes_from_the_defaults_what_it_does_not_say(tmp_path: Path) -> None:
    path = written(
        tmp_path, "[defaults]\nmode = 'advise'\nmin_replicas = 2\n[services.a]\nmin_replicas = 3\n"
    )
    assert load_services(path).get("a") == Service(mode="advise", min_replicas=3)


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("[services.a]\nmode = 'on'\n", r"line 2: services\.a\.mode: .*'shadow', 'advise' or 'enforce'"),
        (
            "[services.a]\n\nmdoe = 'shadow'\n",
            r"line 3: services\.a\.mdoe: there is no such key; did you mean 'mode'",
        ),
        ("[service.a]\n", r"line 1: service: .*did you mean 'services'"),
        ("[services.a]\nmin_replicas = '2'\n", r"line 2: services\.a\.min_replicas: .*integer.*'2'"),
        (
            "# note\n[services.a]\nmin_replicas = 4\nmax_replicas = 3\n",
            r"line 2: services\.a: max_replicas is below min_replicas",
        ),
        ("[services.'a/b']\nmax_share = 2\n", r"line 2: services\.a/b\.max_share: .*less than or equal to 1"),
        ("[defaults]\nmax_share = 2\n[services.a]\n", r"line 2: defaults\.max_share"),
        ("[services]\na = 3\n", r"line 2: services\.a"),
        (
            "[services.a]\nchannels = ['nowhere']\n",
            r"line 2: services\.a\.channels: there is no channel 'nowhere'",
        ),
        (
            "[defaults]\nchannels = ['x']\n[services.a]\n",
            r"line 2: defaults\.channels: there is no channel 'x'",
        ),
        ("[channels.a]\nurls = []\n", r"line 1: channels\.a\.kind: Field required"),
        ("[services.a]\nmode = \n", r"services\.toml: .*line 2.*must be TOML"),
    ],
)
def test_a_mistake_is_told_with_line_and_key(tmp_path: Path, text: str, says: str) -> None:
    path = written(tmp_path, text)
    with pytest.raises(ConfigError, match=says) as told:
        load_services(path)
    assert str(path) in str(told.value)


def test_a_file_that_is_not_there_is_told_with_its_setting(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="LAYERWATCH_SERVICES"):
        load_services(tmp_path / "none.toml")
