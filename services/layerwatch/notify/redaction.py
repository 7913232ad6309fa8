"""Keeps secrets out of logs, whoever writes them."""

from __future__ import annotations

import logging

_SHOWN = "***"
#: Shorter texts are no secrets, and would blot out words.
_LEAST = 8


class Redaction(logging.Filter):
    """Replaces what it has learnt in every record of the handlers that it is added to."""

    def __init__(self) -> None:
        super().__init__()
        self._secrets: frozenset[str] = frozenset()

    def learn(self, secret: str) -> None:
        if len(secret) >= _LEAST:
            self._secrets = self._secrets | {secret}  # another thread may be looking at the old one

    def clean(self, text: str) -> str:
        for secret in self._secrets:
            text = text.replace(secret, _SHOWN)
        return text

    def filter(self, record: logging.LogRecord) -> bool:
        if not self._secrets:
            return True
        message = record.getMessage()
        cleaned = self.clean(message)
        if cleaned != message:
            record.msg, record.args = cleaned, None
        if record.exc_info and record.exc_info[1] is not None:
            text = logging.Formatter().formatException(record.exc_info)
            if self.clean(text) != text:
                record.exc_info = record.exc_text = None
                record.msg, record.args = f"{cleaned}\n{self.clean(text)}", None
        return True
