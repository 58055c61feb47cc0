"""How long a property is tried: so many examples in the test suite, a share of the time in
`make fuzz`."""

from __future__ import annotations

import os
from collections.abc import Callable
from time import monotonic
from typing import Any

from hypothesis import HealthCheck, given, settings

SECONDS_VARIABLE = "ANALYTICS_TEST_FUZZ_SECONDS"
"""Set by `make fuzz`: how long all tests of this directory may take together."""
_ROUND = 500
"""Examples before a long run looks at the clock; Hypothesis chooses others each time."""


class Budget:
    """The share of the time of each test in a long run, None in the test suite."""

    def __init__(self) -> None:
        self.share_s: float | None = None

    def divide(self, tests: int) -> None:
        """Give each of so many tests its share."""
        seconds = os.environ.get(SECONDS_VARIABLE)
        self.share_s = float(seconds) / max(1, tests) if seconds else None

    def run(self, check: Callable[[], None], examples: int, parts: int = 1) -> int:
        """Try a property (a function with `given`) with so many examples, or with ever new ones
        until the share of the time, of which the test has so many `parts`, is over.

        Returns for how many examples that was asked for at least.
        """
        if self.share_s is None:
            _try(check, examples)
            return examples
        end_s, tried = monotonic() + self.share_s / parts, 0
        while monotonic() < end_s:
            _try(check, _ROUND)
            tried += _ROUND
        return tried


def renew(check: Any) -> Callable[[], None]:
    """The property anew: Hypothesis gives settings to one only once."""
    handle = check.hypothesis
    return given(**handle._given_kwargs)(handle.inner_test)


def _try(check: Callable[[], None], examples: int) -> None:
    choose = settings(max_examples=examples, deadline=None, suppress_health_check=list(HealthCheck))
    choose(renew(check))()


BUDGET = Budget()
fuzz = BUDGET.run
