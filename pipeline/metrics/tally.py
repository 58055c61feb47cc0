"""The numbers of one process, added up in its memory.

Neither the files that prometheus_client maps into memory nor its locks will do: a full file system
would end the process with SIGBUS, and a child forked while another thread counts would wait for
ever.
"""

from __future__ import annotations

import threading
from bisect import bisect_left
from collections.abc import Callable

from pipeline.measures import Measure

Rows = dict[tuple[str, tuple[str, ...]], list[float]]
"""By name of the measure and values of its labels: the total of a counter; of a histogram how many
observations there were in each bucket, in the one above them, and their sum."""


class Tally:
    """Adds up what is measured; for any number of threads."""

    def __init__(self, on_change: Callable[[], None]) -> None:
        """`on_change` is called for the first number after `copy`, and must be quick."""
        self._on_change = on_change
        self._is_changed = False
        self._lock = threading.Lock()
        self._rows: Rows = {}

    def keep(self, measure: Measure, number: float, labels: tuple[str, ...]) -> None:
        """Add a number; see `Measure.note`."""
        key = measure.name, labels
        with self._lock:
            row = self._rows.get(key)
            if row is None:
                row = self._rows[key] = make_row(measure)
            if measure.buckets:
                row[bisect_left(measure.buckets, number)] += 1
            row[-1] += number
        if not self._is_changed:
            self._is_changed = True
            self._on_change()

    def copy(self) -> Rows:
        """The rows at this moment."""
        self._is_changed = False  # first: a number that comes meanwhile is copied once more
        with self._lock:
            return {key: list(row) for key, row in self._rows.items()}

    def forget(self) -> None:
        """Begin anew, in a child that was forked: the numbers are its parent's."""
        self._lock = threading.Lock()
        self._rows = {}
        self._is_changed = False


def make_row(measure: Measure) -> list[float]:
    """An empty row of this measure."""
    return [0.0] * (len(measure.buckets) + 2 if measure.buckets else 1)


def add_rows(total: Rows, rows: Rows) -> None:
    """Add rows to others. One of another version, with other buckets, is left out."""
    for key, row in rows.items():
        before = total.get(key)
        if before is None:
            total[key] = list(row)
        elif len(before) == len(row):
            total[key] = [one + other for one, other in zip(before, row, strict=True)]
