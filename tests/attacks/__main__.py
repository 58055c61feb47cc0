"""The command behind `make attacks`: honest clients beside each attack, and a table in build/."""

from __future__ import annotations

import argparse
import asyncio
import json
import sys
from collections import Counter
from pathlib import Path

from tests.attacks.honest import PAGE, SERVER, HonestClients, Seen
from tests.attacks.kinds.table import ATTACKS
from tests.attacks.report import Outcome, line, markdown
from tests.attacks.stage import Servers, Stage
from tests.helpers.support import ROOT

_WARM_UP_S = 3.0
_DRAIN_TIMEOUT_S = 120.0


def main() -> int:
    """Run the attacks asked for; returns 1 when a count is wrong or the web process ended."""
    parser = argparse.ArgumentParser(prog="python -m tests.attacks", description=__doc__)
    parser.add_argument("--only", nargs="+", choices=list(ATTACKS), metavar="NAME")
    parser.add_argument("--seconds", type=float, default=15, help="of each period (default 15)")
    parser.add_argument("--rate", type=float, default=50, help="honest requests a second")
    parser.add_argument(
        "--checkout",
        type=Path,
        default=ROOT,
        metavar="DIR",
        help="another version of this project to measure, with a .venv of its own",
    )
    parser.add_argument("--output", type=Path, default=ROOT / "build/attacks.md", metavar="FILE")
    options = parser.parse_args()
    outcomes: list[Outcome] = []
    with Servers(options.checkout.resolve()) as servers:
        for name in options.only or ATTACKS:
            outcomes.append(carry_out(name, servers, options.seconds, options.rate))
            print(line(name, outcomes[-1]), *outcomes[-1].notes, sep="\n    ", flush=True)
    options.output.parent.mkdir(parents=True, exist_ok=True)
    options.output.write_text(markdown(outcomes), encoding="utf-8")
    print(f"written to {options.output}")
    return int(any(outcome.wrong or not outcome.memory_mib for outcome in outcomes))


def carry_out(name: str, servers: Servers, seconds: float, per_s: float) -> Outcome:
    """One attack on a fresh stage."""
    attack = ATTACKS[name]
    with Stage(servers, attack.file_limit) as stage:
        clients = HonestClients(stage.port, stage.server_key, stage.page_key)
        quiet, attacked, made = asyncio.run(_measure(name, stage, clients, seconds, per_s))
        memory_mib = stage.web_memory_mib()
        notes = [] if stage.drained(_DRAIN_TIMEOUT_S) else ["the queue is not drained"]
        counted = Counter({who: stage.count_of_user(who) for who in (SERVER, PAGE)})
        notes += [stage.measure_command(command) for command in attack.afterwards]
        tracebacks = stage.web_said().count("Traceback")
        notes += [f"{tracebacks} tracebacks in the log of the web process"] if tracebacks else []
    notes += [
        f"honest {who}: " + ", ".join(f"{count} {answer}" for answer, count in answers.items())
        for who, answers in attacked.answers.items()
        if set(answers) != {"200"}
    ]
    return Outcome(
        attack.title,
        quiet,
        attacked,
        memory_mib,
        made,
        clients.accepted,
        clients.unknown,
        counted,
        notes,
    )


async def _measure(
    name: str, stage: Stage, clients: HonestClients, seconds: float, per_s: float
) -> tuple[Seen, Seen, Counter[str]]:
    await clients.run(_WARM_UP_S, per_s)
    quiet = await clients.run(seconds, per_s)
    attacker = stage.attack(name)
    try:
        await asyncio.sleep(1)  # its start is no part of the attack
        attacked = await clients.run(seconds, per_s)
    finally:
        attacker.terminate()
        said, _ = await asyncio.to_thread(attacker.communicate)
        clients.close()
    if attacker.returncode:
        raise RuntimeError(f"the attack {name} ended early, see above: exit {attacker.returncode}")
    return quiet, attacked, Counter(json.loads(said))


if __name__ == "__main__":
    sys.exit(main())
