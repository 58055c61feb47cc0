"""What pages have shown last, for when their servers are away. In memory, bounded."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from threading import Lock
from typing import Any

MOST_PAGES = 100
MOST_OF_TOKEN = 25
"""So that a viewer who opens many pages leaves others theirs."""
MOST_BYTES = 32 * 1024 * 1024
"""Of the pages as they were sent."""

Place = tuple[str, str]
"""The id of a read token, and a URL: a viewer sees no numbers that this token has not read."""


@dataclass(frozen=True)
class Shown:
    """What a page has shown, when, and how long it was in bytes."""

    values: Mapping[str, Any]
    at: datetime
    size: int


class LastShown:
    """The pages shown last, those of longest ago being dropped. Threads may share it."""

    def __init__(self) -> None:
        self._lock = Lock()
        self._pages: OrderedDict[Place, Shown] = OrderedDict()
        self._size = 0
        self._cleared = 0

    @property
    def cleared(self) -> int:
        """How often it was cleared: to be given to `keep` by who begins to read a page."""
        return self._cleared

    def keep(self, place: Place, shown: Shown, cleared: int) -> None:
        """Keep a page; not one whose reading began before the last `clear`."""
        with self._lock:
            if cleared != self._cleared:
                return
            self._drop(place)
            self._pages[place] = shown
            self._size += shown.size
            of_token = [one for one in self._pages if one[0] == place[0]]
            for one in of_token[:-MOST_OF_TOKEN]:
                self._drop(one)
            while len(self._pages) > MOST_PAGES or self._size > MOST_BYTES:
                self._drop(next(iter(self._pages)))

    def find(self, place: Place) -> Shown | None:
        """What was shown there last, if that is kept."""
        with self._lock:
            return self._pages.get(place)

    def clear(self) -> None:
        """Drop all, and what is being read now: something was changed, and a user may be erased."""
        with self._lock:
            self._pages.clear()
            self._size = 0
            self._cleared += 1

    def _drop(self, place: Place) -> None:
        if (shown := self._pages.pop(place, None)) is not None:
            self._size -= shown.size
