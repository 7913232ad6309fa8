"""How far an instance's messages have been folded in, so that a repeat changes nothing."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(slots=True)
class Cursor:
    """Order of an instance's messages: by boot, then by sequence."""

    boot_ms: int = -1
    sequence: int = -1

    def advance(self, boot_ms: int, sequence: int) -> bool:
        """True if the message is new; False for one that was folded in already or belongs to an earlier boot."""
        if (boot_ms, sequence) <= (self.boot_ms, self.sequence):
            return False
        self.boot_ms, self.sequence = boot_ms, sequence
        return True
