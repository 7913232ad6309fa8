"""What the processor wants sampled, from `layerwatch.control`."""

from __future__ import annotations

import logging
import math
import time

from layerwatch.schemas.control import CONTROL_READER, Control
from layerwatch.schemas.errors import InvalidRecord

_log = logging.getLogger(__name__)

#: Orders that are remembered, of all hosts: each agent reads the whole topic.
_MAX_CONTROLS = 100_000


class Controls:
    """`by_instance` holds the last order for each instance that has not expired; read it from any thread."""

    def __init__(self) -> None:
        self.by_instance: dict[str, Control] = {}
        self.read = self.refused = 0

    def take(self, value: bytes | None, now_s: float | None = None) -> None:
        """One record of the topic; `now_s` is unix time, the present unless it is given."""
        try:
            control = _sound(CONTROL_READER.decode(value or b""))
        except InvalidRecord as error:
            self.refused += 1
            _log.warning("refused an order: %s", error)
            return
        self.read += 1
        now_s = time.time() if now_s is None else now_s
        if control.expires_s > now_s and len(self.by_instance) < _MAX_CONTROLS:
            self.by_instance[control.instance] = control
        else:
            self.by_instance.pop(control.instance, None)


def _sound(control: Control) -> Control:
    """The order; raises InvalidRecord where its numbers are none."""
    numbers = (control.expires_s, control.rate or 0.0, control.ceiling_pct or 0.0)
    if not all(math.isfinite(number) for number in numbers) or min(numbers[1:]) < 0:
        raise InvalidRecord("malformed", f"an order for {control.instance} with {numbers}")
    return control
