"""What an attack came to, and the table of all."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, field

from tests.attacks.honest import PAGE, SERVER, Seen

LEAST_SHARE = 0.99
MOST_TIMES_SLOWER = 3.0
MOST_MEMORY_MIB = 300.0

_HEAD = (
    *("attack", "answered 200: server", "pages", "p50 ms: quiet", "under attack"),
    *("p99 ms: quiet", "under attack", "ratio", "web MiB", "attack", "exact", "met"),
)


@dataclass
class Outcome:
    """What one attack came to."""

    title: str
    quiet: Seen
    attacked: Seen
    memory_mib: float
    """The most memory that the web process had; 0 when it ended."""
    made: Counter[str]
    """What the attacker sent and how it was answered."""
    accepted: Counter[str]
    unknown: Counter[str]
    counted: Counter[str]
    """Of the honest clients' events, by SERVER and PAGE."""
    notes: list[str] = field(default_factory=list)

    @property
    def slower(self) -> float:
        """How many times p99 is what it was in quiet."""
        quiet_ms = self.quiet.quantile_ms(0.99)
        return self.attacked.quantile_ms(0.99) / quiet_ms if quiet_ms else float("inf")

    @property
    def wrong(self) -> list[str]:
        """Counts that are not exact; empty when all are."""
        found = []
        for who in (SERVER, PAGE):
            least, counted = self.accepted[who], self.counted[who]
            if not least <= counted <= least + self.unknown[who]:
                found.append(f"{who}: {counted - least:+d} of {least}")
        return found

    @property
    def met(self) -> bool:
        """Whether honest clients hardly notice, memory is bounded and counts are exact."""
        return (
            self.attacked.share() >= LEAST_SHARE
            and self.slower <= MOST_TIMES_SLOWER
            and 0 < self.memory_mib <= MOST_MEMORY_MIB
            and not self.wrong
        )

    def row(self) -> tuple[str, ...]:
        """The cells of the report."""
        quiet, attacked = self.quiet, self.attacked
        made = ", ".join(f"{count:,} {name}" for name, count in self.made.most_common(4))
        return (
            self.title,
            *(f"{attacked.share(who):.1%}" for who in (SERVER, PAGE)),
            *(f"{seen.quantile_ms(0.5):.1f}" for seen in (quiet, attacked)),
            *(f"{seen.quantile_ms(0.99):.1f}" for seen in (quiet, attacked)),
            f"{self.slower:.1f}",
            f"{self.memory_mib:.0f}" if self.memory_mib else "ended",
            made or "-",
            "no: " + "; ".join(self.wrong) if self.wrong else "yes",
            "yes" if self.met else "**no**",
        )


def markdown(outcomes: Iterable[Outcome]) -> str:
    """The table, and below it what else is to be known of each attack."""
    done = list(outcomes)
    rows = [_HEAD, ("---",) * len(_HEAD), *(outcome.row() for outcome in done)]
    table = ["| " + " | ".join(row) + " |" for row in rows]
    notes = [f"- {outcome.title}: {note}" for outcome in done for note in outcome.notes]
    return "\n".join([*table, "", *notes]).rstrip() + "\n"


def line(name: str, outcome: Outcome) -> str:
    """One line for the terminal."""
    cells = outcome.row()
    return (
        f"{name:<16} 200: {cells[1]:>6} {cells[2]:>6}  p99 {cells[5]:>6} -> {cells[6]:>7} ms "
        f"({cells[7]} x)  {cells[8]} MiB  [{cells[9]}]  exact: {cells[10]}  met: {cells[11]}"
    )
