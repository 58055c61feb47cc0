"""What was done to whom, counted while it happens."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path


@dataclass
class Tally:
    """By role: kills, stops, restarts, and ends that nobody asked for (a worker that finds no Redis
    at its start ends, and is started again)."""

    kills: Counter[str] = field(default_factory=Counter)
    stops: Counter[str] = field(default_factory=Counter)
    restarts: Counter[str] = field(default_factory=Counter)
    slow_restarts: Counter[str] = field(default_factory=Counter)
    own_ends: Counter[str] = field(default_factory=Counter)
    killed_at: Counter[str] = field(default_factory=Counter)
    """By crash point."""
    stopped_at: Counter[str] = field(default_factory=Counter)
    not_reached: Counter[str] = field(default_factory=Counter)
    """Points for which a process was armed in vain."""

    def read_acts(self, record: Path, role: str) -> None:
        """Take in what the processes of a role have done to themselves at crash points."""
        for line in record.read_text().splitlines() if record.exists() else ():
            act, _, point = line.partition(" ")
            if act == "kill":
                self.kills[role] += 1
                self.killed_at[point] += 1
            else:
                self.stops[role] += 1
                self.stopped_at[point] += 1

    def add(self, other: Tally) -> None:
        """Take in another campaign."""
        for name, counter in vars(self).items():
            counter.update(getattr(other, name))
