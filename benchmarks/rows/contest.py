"""A contest, and what becomes of it when it is held."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace

from benchmarks.report.report import Comparison, Measured, Row, row
from benchmarks.stage.stage import Stage


@dataclass(frozen=True)
class Contest:
    """Rows that come from the same measurements. `with_always` are those that are measured once
    more with `appendfsync always`, to be reported without a target."""

    name: str
    measure: Callable[[Stage], Measured]
    comparisons: tuple[Comparison, ...]
    with_always: tuple[str, ...] = ()

    def rows(self, stage: Stage) -> list[Row]:
        """Hold the contest."""
        measured = self.measure(stage)
        stage.clear()
        return [row(comparison, measured) for comparison in self.comparisons]

    def again_with_always(self) -> Contest:
        """The same contest with those rows only, renamed and without targets."""
        return replace(
            self,
            comparisons=tuple(
                replace(one, name=f"{one.name}-always", target=None)
                for one in self.comparisons
                if one.name in self.with_always
            ),
        )
