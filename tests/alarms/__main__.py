"""The command behind `make alarms`: each fault on a pipeline of its own at its default settings,
how long until its alarm is raised and cleared, and a table in build/."""

from __future__ import annotations

import argparse
import sys
import tempfile
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from shutil import rmtree

from tests.alarms.faults import FAULTS, Fault
from tests.alarms.listeners import find_prometheus
from tests.alarms.stage import Stage
from tests.helpers.support import ROOT

_HEALTHY_S = 45.0
"""Three looks of each: nothing is raised while all is well."""
_AFTERWARDS_S = 60.0
"""After the alarm has gone, no other comes."""
_QUIET_S = 150.0
"""Of a pipeline without a fault."""
_POLL_S = 0.2
_HEAD = (
    "| fault | alarm | raised by `watch` after | by Prometheus after | cleared by `watch` after | "
    "by Prometheus after | others |\n| --- | --- | --- | --- | --- | --- | --- |"
)


@dataclass
class Outcome:
    """What became of a fault: seconds from it until each has raised its alarm, and from the mend
    until each has cleared it; `others` are alarms that should not have been, by who raised them."""

    title: str
    alarm: str
    raised_s: dict[str, float] = field(default_factory=dict)
    cleared_s: dict[str, float] = field(default_factory=dict)
    others: set[str] = field(default_factory=set)

    def is_met(self, limit_s: float) -> bool:
        """Whether both raised this alarm alone, in time, and cleared it."""
        if self.others:
            return False
        both = (*self.raised_s.values(), *self.cleared_s.values())
        return not self.alarm or (len(both) == 4 and max(self.raised_s.values()) <= limit_s)

    def to_row(self) -> str:
        """Of the table."""
        found = [one.get(who) for one in (self.raised_s, self.cleared_s) for who in WHO]
        unknown = "never" if self.alarm else "–"
        times = [unknown if one is None else f"{one:.0f} s" for one in found]
        others = ", ".join(sorted(self.others)) or "none"
        return f"| {self.title} | {self.alarm or '–'} | {' | '.join(times)} | {others} |"


WHO: dict[str, Callable[[Stage], set[str]]] = {
    "watch": Stage.ask_watch,
    "prometheus": Stage.ask_prometheus,
}


class Trial:
    """A fault on a stage."""

    def __init__(self, fault: Fault, stage: Stage, limit_s: float) -> None:
        self._fault, self._stage, self._limit_s = fault, stage, limit_s
        self._expected = {fault.alarm}
        self._seen: dict[str, set[str]] = {}
        self.outcome = Outcome(fault.title, fault.alarm)

    def carry_out(self) -> Outcome:
        """Wait, strike, wait for the alarm, mend, wait for its end, and see that nothing else
        comes."""
        alarm, outcome = self._fault.alarm, self.outcome
        self._see(lambda: False, _HEALTHY_S)
        mend, began_s = self._fault.strike(self._stage), time.monotonic()
        if not alarm:
            self._see(lambda: False, _QUIET_S)
            return outcome

        def note(times_s: dict[str, float], *, is_raised: bool) -> bool:
            for who, seen in self._seen.items():
                if (alarm in seen) == is_raised:
                    times_s.setdefault(who, time.monotonic() - began_s)
            return len(times_s) == len(WHO)

        self._see(lambda: note(outcome.raised_s, is_raised=True), self._limit_s)
        mend()
        began_s = time.monotonic()
        self._see(lambda: note(outcome.cleared_s, is_raised=False), self._limit_s)
        self._expected = set()
        self._see(lambda: False, _AFTERWARDS_S)
        return outcome

    def _see(self, is_enough: Callable[[], bool], longest_s: float) -> None:
        """Look until it is enough, and note what should not be there."""
        until_s = time.monotonic() + longest_s
        while time.monotonic() < until_s:
            self._seen = {}
            for who, ask in WHO.items():
                try:
                    self._seen[who] = ask(self._stage)
                except OSError:
                    continue  # Prometheus is starting
                for name in self._seen[who] - self._expected:
                    self.outcome.others.add(f"{name} ({who})")
            if is_enough():
                return
            time.sleep(_POLL_S)


def main() -> int:
    """Carry out the faults asked for; returns 1 when an alarm came late, did not go, or was not the
    only one."""
    parser = argparse.ArgumentParser(prog="python -m tests.alarms", description=__doc__)
    parser.add_argument("--only", nargs="+", choices=list(FAULTS), metavar="NAME")
    parser.add_argument("--at-once", type=int, default=5, help="pipelines at a time (default 5)")
    parser.add_argument("--limit", type=float, default=120, help="seconds to be raised in")
    parser.add_argument("--rate", type=float, default=30, help="events a second (default 30)")
    parser.add_argument("--output", type=Path, default=ROOT / "build/alarms.md", metavar="FILE")
    parser.add_argument("--keep", action="store_true", help="keep logs and data")
    options = parser.parse_args()
    if find_prometheus() is None:
        parser.error("prometheus is not installed (on Debian: apt-get install prometheus)")
    directory = Path(tempfile.mkdtemp(prefix="alarms-"))
    directory.chmod(0o711)

    def carry_out(name: str) -> Outcome:
        fault = FAULTS[name]
        with Stage(directory / name, options.rate, fault.settings) as stage:
            outcome = Trial(fault, stage, options.limit).carry_out()
        print(outcome.to_row(), flush=True)
        return outcome

    print(_HEAD, flush=True)
    try:
        with ThreadPoolExecutor(options.at_once) as pool:
            outcomes = list(pool.map(carry_out, options.only or FAULTS))
    finally:
        if not options.keep:
            rmtree(directory, ignore_errors=True)
        else:
            print(f"logs in {directory}")
    table = "\n".join([_HEAD, *(one.to_row() for one in outcomes)])
    options.output.parent.mkdir(parents=True, exist_ok=True)
    options.output.write_text(f"{table}\n", encoding="utf-8")
    print(f"written to {options.output}")
    return int(not all(one.is_met(options.limit) for one in outcomes))


if __name__ == "__main__":
    sys.exit(main())
