"""The command: `python -m tests.chaos --kills 110 --seed 7`; it exits with 1 on loss or double."""

from __future__ import annotations

import argparse
import asyncio
import random
import sys

from tests.chaos.campaign import CampaignFailed, Outcome, run
from tests.chaos.checks import report
from tests.chaos.stage import Plan
from tests.conftest import describe_servers

_EVENTS_PER_KILL = 420
_EVENTS_PER_KILL_IN_CONTROL = 80
_SECONDS_PER_KILL = 0.5


def main() -> int:
    """Run the campaigns that the command line asks for."""
    parser = argparse.ArgumentParser(prog="python -m tests.chaos", description=__doc__)
    parser.add_argument("--kills", type=int, default=20, help="kill -9 in all (default 20)")
    parser.add_argument("--seed", type=int, help="repeats a campaign (default: by chance)")
    parser.add_argument("--seeds", type=int, default=1, help="campaigns, with seeds from --seed on")
    parser.add_argument(
        "--events", type=int, help="events, at least (default 420 a kill, 80 in the control)"
    )
    parser.add_argument("--seconds", type=float, help="about how long (default 0.5 a kill)")
    parser.add_argument(
        "--control",
        action="store_true",
        help="plain Celery tasks on the stock transport, to see that the campaign finds losses",
    )
    options = parser.parse_args()
    seed = random.randrange(100_000) if options.seed is None else options.seed
    per_kill = _EVENTS_PER_KILL_IN_CONTROL if options.control else _EVENTS_PER_KILL
    together = Outcome()
    print(describe_servers(), flush=True)
    for at in range(seed, seed + options.seeds):
        plan = Plan(
            kills=options.kills,
            events=options.events or options.kills * per_kill,
            seconds=options.seconds or max(10.0, options.kills * _SECONDS_PER_KILL),
            seed=at,
            control=options.control,
        )
        print(f"seed {at}", flush=True)
        try:
            outcome = asyncio.run(run(plan, lambda line: print(line, flush=True)))
        except CampaignFailed as error:
            print(f"the campaign failed: {error}; again: {report.again(plan)}")
            return 1
        together.add(outcome)
        if options.seeds > 1:
            print(report.last_line(outcome, str(at)), flush=True)
        if not outcome.verdict.good:
            print(f"logs and data are in {outcome.directory}; again: {report.again(plan)}")
    print(report.tables(together))
    print(*report.notes(together), sep="\n")
    seeds = str(seed) if options.seeds == 1 else f"{seed}-{seed + options.seeds - 1}"
    print(report.last_line(together, seeds))
    return 0 if together.verdict.good else 1


if __name__ == "__main__":
    sys.exit(main())
