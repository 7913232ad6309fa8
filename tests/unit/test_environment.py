"""Settings handed to a child process arrive there as they were."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

from pydantic import SecretStr

from layerwatch.hosting.environment import environment
from layerwatch.hosting.settings import DecisionSettings, KafkaSettings, Settings


def test_a_child_loads_exactly_the_settings_that_it_was_given(tmp_path: Path) -> None:
    given = Settings(
        state_dir=tmp_path / "a folder",
        kafka=KafkaSettings(
            port=12345, partitions=7, password=SecretStr("pass word"), ca_file=tmp_path / "ca.pem"
        ),
        decision=DecisionSettings(mode="advise", hang_s=1.5),
    )
    code = (
        "from layerwatch.hosting.settings import load; found = load();"
        "print(found.kafka.password.get_secret_value()); print(found.model_dump_json(exclude={'kafka': {'password'}}))"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], env=environment(given), capture_output=True, text=True, check=True
    )
    password, _, others = done.stdout.partition("\n")
    assert password == "pass word"
    assert others.strip() == given.model_dump_json(exclude={"kafka": {"password"}})
