"""How many calls may be sent a second time, so that failing nodes do not get more to do than good ones."""

CALLS_A_RETRY = 10
"""calls that earn one retry: 10 %"""
RESERVE = 10
"""retries at the start, when no call has earned any"""
BANK_MAX = 100
"""retries that can be saved up"""


class RetryBudget:
    """One replica's. Counts in tenths of a retry, for ten times 0.1 is less than 1."""

    def __init__(self) -> None:
        self._saved = RESERVE * CALLS_A_RETRY

    def earn(self) -> None:
        """A call was sent for the first time."""
        self._saved = min(self._saved + 1, BANK_MAX * CALLS_A_RETRY)

    def spend(self) -> bool:
        """Takes one retry, if there is one."""
        if self._saved < CALLS_A_RETRY:
            return False
        self._saved -= CALLS_A_RETRY
        return True
