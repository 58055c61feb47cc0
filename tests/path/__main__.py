"""The command behind `make path`: follows one event and prints how long its way is."""

from __future__ import annotations

import argparse
import sys
import tempfile
from pathlib import Path

from tests.path.page import PAGE, update
from tests.path.stops import follow_event, summarize


def main() -> None:
    """Do what the command line asks for."""
    parser = argparse.ArgumentParser(prog="python -m tests.path", description=__doc__)
    parser.add_argument("-v", "--verbose", action="store_true", help="list the stops in order")
    parser.add_argument("--update", action="store_true", help=f"put them into {PAGE.name}")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as directory:
        stops = follow_event(Path(directory))
    if options.verbose:
        for stop in stops:
            print(f"{stop.process:<8}{stop.lines:>4}  {stop.title}", file=sys.stderr)
    if options.update:
        page, gone = update(PAGE.read_text(encoding="utf-8"), stops)
        PAGE.write_text(page, encoding="utf-8")
        for row in gone:
            print(f"no longer a stop: {row.title} | {row.what} | {row.crash}", file=sys.stderr)
    print(summarize(stops))


if __name__ == "__main__":
    main()
