"""What a process of ours writes."""

from __future__ import annotations

import json
import subprocess
import sys

LINES = """
import logging
from aiokafka.errors import GroupCoordinatorNotAvailableError
from layerwatch.hosting.logs import configure
from layerwatch.hosting.settings import LogSettings
configure(LogSettings(format="json"), "processor")
aiokafka = logging.getLogger("aiokafka.consumer.group_coordinator")
aiokafka.error("Group Coordinator Request failed: %s", GroupCoordinatorNotAvailableError())
aiokafka.error("something else failed")
"""


def test_a_first_start_on_a_new_broker_alarms_nobody() -> None:
    done = subprocess.run(
        [sys.executable, "-c", LINES], capture_output=True, text=True, timeout=60, check=True
    )
    levels = [json.loads(line)["level"] for line in done.stderr.splitlines()]
    assert levels == ["info", "error"]


CLOSED = """
import logging
from layerwatch.hosting.logs import configure
from layerwatch.hosting.settings import LogSettings
configure(LogSettings(format="json"), "processor")
kafka = logging.getLogger("kafka.net.transport")
for sock in (None, 7):
    try:
        sock.recv(4096)
    except AttributeError:
        kafka.exception("Error receiving network data closing socket")
"""


def test_a_connection_that_was_closed_meanwhile_is_no_error() -> None:
    done = subprocess.run(
        [sys.executable, "-c", CLOSED], capture_output=True, text=True, timeout=60, check=True
    )
    closed, other = (json.loads(line) for line in done.stderr.splitlines())
    assert (closed["level"], "exception" in closed) == ("info", False)
    assert (other["level"], "exception" in other) == ("error", True)
