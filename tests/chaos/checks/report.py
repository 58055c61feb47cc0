"""What a campaign prints at its end."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from tests.chaos.campaign import Outcome
from tests.chaos.points import POINTS
from tests.chaos.stage import Plan

ROLES = {
    "events": "event workers",
    "flush": "flush workers",
    "beat": "beat",
    "producer": "producers",
    "redis": "Redis",
    "postgres": "Postgres",
    "reader": "reader",
}


def tables(outcome: Outcome) -> str:
    """A table by role and one by crash point, as Markdown."""
    tally, faults = outcome.tally, outcome.faults
    roles = [
        (
            name,
            tally.kills[role],
            tally.stops[role],
            tally.restarts[role],
            faults.get(role, {}).get("drop", 0),
            faults.get(role, {}).get("delay", 0) + faults.get(role, {}).get("late request", 0),
            faults.get(role, {}).get("half-close", 0),
        )
        for role, name in ROLES.items()
    ]
    sums = ("all", *[sum(row[at] for row in roles) for at in range(1, 7)])
    points = [
        (point, tally.killed_at[point], tally.stopped_at[point])
        for names in POINTS.values()
        for point in names
    ]
    by_point = _table(("crash point", "killed there", "stopped there"), points)
    return "\n".join(
        [
            *_table(
                (
                    "role",
                    "kill -9",
                    "stopped",
                    "restarted",
                    "replies lost",
                    "delays",
                    "half-closed",
                ),
                [*roles, sums],
            ),
            *(["", *by_point] if tally.killed_at else []),
        ]
    )


def notes(outcome: Outcome) -> Iterator[str]:
    """What else is worth a line."""
    tally = outcome.tally
    if outcome.reads:
        yield f"the reader read {outcome.reads} times"
    silent = silent_points(outcome)
    if silent and tally.killed_at:
        yield f"crash points that never fired: {', '.join(silent)}"
    for what, counter in (
        ("had to be killed after a restart's SIGTERM", tally.slow_restarts),
        ("ended by themselves", tally.own_ends),
    ):
        for role, n in sorted(counter.items()):
            yield f"{n} {ROLES[role]} {what}"
    yield from outcome.verdict.wrong


def silent_points(outcome: Outcome) -> list[str]:
    """Crash points that never fired."""
    tally = outcome.tally
    return [
        point
        for names in POINTS.values()
        for point in names
        if not tally.killed_at[point] + tally.stopped_at[point]
    ]


def last_line(outcome: Outcome, seeds: str) -> str:
    """The one line that says it all."""
    return (
        f"kills {outcome.tally.kills.total()}, events {outcome.events}, "
        f"unknown {outcome.unknown}, lost {outcome.verdict.lost}, "
        f"doubled {outcome.verdict.doubled}, seed {seeds}"
    )


def again(plan: Plan) -> str:
    """The command that repeats a campaign."""
    return (
        f"python -m tests.chaos --kills {plan.kills} --seed {plan.seed} --events {plan.events} "
        f"--seconds {plan.seconds:g}{' --control' * plan.control}"
    )


def _table(head: Sequence[str], rows: Sequence[Sequence[object]]) -> list[str]:
    widths = [max(len(str(row[at])) for row in [head, *rows]) for at in range(len(head))]

    def line(row: Sequence[object]) -> str:
        first, *rest = [str(cell) for cell in row]
        cells = [first.ljust(widths[0])]
        cells += [cell.rjust(width) for cell, width in zip(rest, widths[1:], strict=True)]
        return f"| {' | '.join(cells)} |"

    rule = [f"{'-' * widths[0]}", *[f"{'-' * (width - 1)}:" for width in widths[1:]]]
    return [line(head), f"| {' | '.join(rule)} |", *map(line, rows)]
