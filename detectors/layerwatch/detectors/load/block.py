"""What a service executed in 15 seconds: the unit of load."""

from __future__ import annotations

import msgspec

#: As long as the autoscaler of Kubernetes waits between two looks.
BLOCK_S = 15.0


class LoadBlock(msgspec.Struct, frozen=True):
    """`busy_s` and `busy_s2` are sums of the executions' times and of their squares, so that any blocks can be added up."""

    end_s: float
    executions: float
    busy_s: float
    busy_s2: float
    instances: int  # that were there to serve

    @property
    def rate(self) -> float:
        """Executions a second."""
        return self.executions / BLOCK_S

    @property
    def utilisation(self) -> float:
        """Share of the instances' time, 0 to 1; each is taken to execute one after the other."""
        return min(self.busy_s / (BLOCK_S * max(self.instances, 1)), 1.0)


class ServiceTime(msgspec.Struct, frozen=True):
    """Of one execution, for the present mix of shapes."""

    mean_s: float
    cv2: float  # variance over the mean's square


class Mix(msgspec.Struct):
    """Service time of late: the mix of shapes changes within minutes, so older executions count for less."""

    executions: float = 0.0
    busy_s: float = 0.0
    busy_s2: float = 0.0

    def update(self, block: LoadBlock) -> None:
        self.executions = _KEEP * self.executions + block.executions
        self.busy_s = _KEEP * self.busy_s + block.busy_s
        self.busy_s2 = _KEEP * self.busy_s2 + block.busy_s2

    @property
    def service(self) -> ServiceTime | None:
        """None until something was executed."""
        if self.executions < 1 or self.busy_s <= 0:
            return None
        mean_s = self.busy_s / self.executions
        return ServiceTime(mean_s, max(self.busy_s2 / self.executions / mean_s**2 - 1, 0.0))


#: Half of the weight is on the last five minutes.
_KEEP = 0.5 ** (BLOCK_S / 300)
