"""Logs of a process: readable lines on a terminal, one JSON object a line otherwise. Modules use plain `logging`."""

from __future__ import annotations

import logging
import sys
from typing import Any

import structlog

from layerwatch.hosting.settings import LogSettings

#: Third parties that tell at INFO what only their authors want to know.
_CHATTY = ("kafka", "aiokafka", "faust", "mode", "rocksdict", "asyncio", "uvicorn.access", "httpx")


def _calm(record: logging.LogRecord) -> bool:
    """News that is told as an error: nobody is to look for what is wrong.

    A broker's first consumer group waits until its topic of offsets is there. kafka-python may close a connection
    between waiting for its socket and reading from it.
    """
    waits = "GroupCoordinatorNotAvailable" in record.getMessage()
    closed = record.exc_info is not None and "'NoneType' object has no attribute 'recv'" in str(
        record.exc_info[1]
    )
    if waits or closed:
        record.levelno, record.levelname = logging.INFO, "INFO"
        record.exc_info = None
    return True


def configure(settings: LogSettings, service: str) -> None:
    """Send the root logger's records to stderr, each marked with the service. Call once, from a command."""
    json = settings.format == "json" or (settings.format == "auto" and not sys.stderr.isatty())

    def mark(_: Any, __: str, event: structlog.typing.EventDict) -> structlog.typing.EventDict:
        return {"service": service, **event}

    shared: list[structlog.typing.Processor] = [
        structlog.stdlib.add_log_level,
        structlog.stdlib.add_logger_name,
        structlog.stdlib.ExtraAdder(),
        structlog.processors.TimeStamper(fmt="iso", utc=True),
        mark,
    ]
    render: list[structlog.typing.Processor] = (
        [structlog.processors.format_exc_info, structlog.processors.JSONRenderer(default=str)]
        if json
        else [structlog.dev.ConsoleRenderer(pad_event_to=0)]
    )
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(
        structlog.stdlib.ProcessorFormatter(
            foreign_pre_chain=shared,
            processors=[structlog.stdlib.ProcessorFormatter.remove_processors_meta, *render],
        )
    )
    root = logging.getLogger()
    root.handlers[:] = [handler]
    root.setLevel(settings.level.upper())
    for name in _CHATTY:
        logging.getLogger(name).setLevel(max(logging.WARNING, root.level))
    for name in ("aiokafka.consumer.group_coordinator", "kafka.net.transport"):
        logging.getLogger(name).addFilter(_calm)
