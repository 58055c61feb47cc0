"""What the numbers of properties add to the counters: sums, and how many numbers of each size there
are. Pure.

A property named in `sums` is summed per quarter hour, and per day by each value that is counted of
the same event. A value that is no number is counted as such.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator, Sequence
from typing import Any

from pipeline.event.model import Event
from pipeline.event.scale import LIMB, LIMB_DIGITS, count_bins, scale
from pipeline.options import Sums
from pipeline.redis.counters import COUNT, NOT_NUMBERS
from pipeline.redis.keys import MEASURES, bin_head, sum_head, value_sum_head

Number = tuple[str, int | None]
"""A property that is summed, and its number in an event, scaled; None where its value is none."""


class PropertySums:
    """Adds up the numbers of a batch of events."""

    def __init__(self, sums: Sums) -> None:
        self._sums = sums
        self._numbers: defaultdict[tuple[str, str, str], list[int]] = defaultdict(list)
        """Scaled, by type, property and quarter hour."""
        self._not_numbers: defaultdict[tuple[str, str, str], int] = defaultdict(int)
        """How many values were none."""
        self.of_values: defaultdict[tuple[str, str, str], dict[str, dict[str, list[int]]]]
        self.of_values = defaultdict(dict)
        """By type, counted property and day; then by value and summed property: sum, numbers, and
        values that are none."""

    def add(self, event: Event, quarter: str) -> list[Number]:
        """Add the event's numbers, and return them."""
        numbers: list[Number] = []
        event_type, properties = event.event_type, event.properties or {}
        for name, decimals in self._sums[event_type].items():
            if name in properties:
                number = scale(properties[name], decimals)
                if number is None:
                    self._not_numbers[event_type, name, quarter] += 1
                else:
                    self._numbers[event_type, name, quarter].append(number)
                numbers.append((name, number))
        return numbers

    def add_by_value(self, numbers: Sequence[Number], of: tuple[str, str, str], value: str) -> None:
        """Add an event's numbers to the sums of a value: `of` is event type, property and day."""
        of_value = self.of_values[of].setdefault(value, {})
        for name, number in numbers:
            found = of_value.setdefault(name, [0, 0, 0])
            found[0] += number or 0
            found[1 if number is not None else 2] += 1

    def list_buckets(self) -> dict[int, dict[str, int]]:
        """The fields of sums and bins, with their increments, by bucket."""
        fields: dict[str, int] = {}
        of_days: defaultdict[tuple[str, str, str], list[int]] = defaultdict(list)
        for (event_type, name, quarter), numbers in self._numbers.items():
            head, decimals = sum_head(event_type, name), self._sums[event_type][name]
            for part, n in [*_split(sum(numbers), decimals), (COUNT, len(numbers))]:
                fields[f"{head}:{part}:{quarter}"] = n
            of_days[event_type, name, quarter[:10]] += numbers
        for (event_type, name, quarter), n in self._not_numbers.items():
            fields[f"{sum_head(event_type, name)}:{NOT_NUMBERS}:{quarter}"] = n
        for (event_type, name, day), numbers in of_days.items():
            head = bin_head(event_type, name)
            for number, n in count_bins(numbers, self._sums[event_type][name]).items():
                fields[f"{head}:{number}:{day}"] = n
        return {MEASURES: fields} if fields else {}

    def list_by_value(
        self, event_type: str, by: str, day: str, rest: str
    ) -> dict[str, list[tuple[str, str, int]]]:
        """By value, the fields of its sums: (field, that of the `rest`, increment)."""
        found: dict[str, list[Any]] = {}
        for value, of_value in self.of_values.get((event_type, by, day), {}).items():
            fields = found[value] = []
            for name, (total, numbers, others) in of_value.items():
                head = value_sum_head(event_type, name, by, value)
                head_of_rest = value_sum_head(event_type, name, by, rest)
                decimals = self._sums[event_type][name]
                counts = ((COUNT, numbers), (NOT_NUMBERS, others))
                for part, n in [*_split(total, decimals), *counts]:
                    if n:
                        fields.append((f"{head}:{part}:{day}", f"{head_of_rest}:{part}:{day}", n))
        return found


def _split(total: int, decimals: int) -> Iterator[tuple[str, int]]:
    """The parts of a scaled sum that are not zero, each far below 64 bits."""
    large = abs(total) // LIMB * (1 if total > 0 else -1)
    small = total - large * LIMB
    if small:
        yield f"e{-decimals}", small
    if large:
        yield f"e{LIMB_DIGITS - decimals}", large
