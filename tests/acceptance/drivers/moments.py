"""The moments at which a driver stops what it runs."""

from __future__ import annotations

import argparse
import os
import signal
from collections import Counter
from collections.abc import Callable, Sequence
from functools import wraps
from typing import Any


def parser_of(moments: Sequence[str]) -> argparse.ArgumentParser:
    """The options of a driver: its servers, and the moment `--at` which, the `--nth` time."""
    parser = argparse.ArgumentParser()
    parser.add_argument("redis_url")
    parser.add_argument("postgres_url")
    parser.add_argument("--at", choices=moments)
    parser.add_argument("--nth", type=int, default=1)
    return parser


class Stop:
    """Acts the `nth` time that the moment `at` comes."""

    def __init__(self, at: str | None, nth: int, act: Callable[[str], None]) -> None:
        self._at, self._nth, self._act = at, nth, act
        self._come: Counter[str] = Counter()

    def reach(self, moment: str) -> None:
        self._come[moment] += 1
        if moment == self._at and self._come[moment] == self._nth:
            self._act(moment)

    def around(self, step: str, function: Callable[..., Any]) -> Callable[..., Any]:
        @wraps(function)
        def stopping(*args: Any, **kwargs: Any) -> Any:
            self.reach(f"before {step}")
            result = function(*args, **kwargs)
            self.reach(f"after {step}")
            return result

        return stopping


def kill(moment: str) -> None:
    os.kill(os.getpid(), signal.SIGKILL)
