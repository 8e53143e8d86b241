"""The end of a training by the clock, at an epoch's end."""

import time
from collections.abc import Callable


class TimeLimit:
    """Says whether another epoch fits into the time of a training.

    The next epoch is expected to take as long as the last one. The first of a process takes longer, because the network
    is compiled, so a limit of few epochs may end one epoch early. At least one epoch is always trained.

    Args:
        hours: the limit; None for no limit.
        begun: the time from which it counts; None for now.
        now: returns a time in seconds.
    """

    def __init__(
        self, hours: float | None = None, *, begun: float | None = None, now: Callable[[], float] = time.monotonic
    ) -> None:
        self.hours = hours
        self._now = now
        self._begun = now() if begun is None else begun
        self._epoch_begun = self._begun

    def begin_epoch(self) -> None:
        """Notes the beginning of an epoch."""
        self._epoch_begun = self._now()

    def allows_another(self) -> bool:
        """Returns whether another epoch, as long as the one that ends now, is over before the limit."""
        now = self._now()
        return self.hours is None or (now - self._begun) + (now - self._epoch_begun) <= 3600 * self.hours
