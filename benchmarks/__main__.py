"""`python -m benchmarks`: hold the contests, tell how they went, and say where we fall short."""

from __future__ import annotations

import argparse
import os
import platform
import time
from collections.abc import Sequence
from dataclasses import asdict
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path
from typing import Any

from rich.console import Console

from benchmarks.contests import growth
from benchmarks.contests.growth import Point
from benchmarks.report import plots, report
from benchmarks.report.report import Row
from benchmarks.rows import CONTESTS, GROWTH, Contest, chosen
from benchmarks.stage.processes import busy_s, used_s
from benchmarks.stage.stage import FULL, QUICK, Sizes, Stage, open_stage

HERE = Path(__file__).parent
ELSEWHERE = HERE.parent / "build" / "benchmarks"
"""Where a run goes that is no full one: the results in the tree are those of a full run."""


def main() -> None:
    """Run what the options say."""
    options = _options()
    began, busy_before_s = time.monotonic(), busy_s()
    console = Console()
    sizes: Sizes = QUICK if options.quick else FULL
    contests = chosen(options.only)
    with_growth = not options.only or GROWTH in options.only
    with console.status("") as status, open_stage(sizes, status.update) as stage:
        head = _head(stage, quick=options.quick)
        rows = _hold(contests, stage, console)
        points = growth.measure(stage) if with_growth else []
        if any(contest.with_always for contest in contests):
            console.log("with appendfsync always")
            again = [one.again_with_always() for one in contests if one.with_always]
            rows += _hold(again, stage.with_appendfsync_always(), console)
    duration_s = time.monotonic() - began
    others = (busy_s() - busy_before_s - used_s()) / duration_s
    head |= {"duration_s": round(duration_s), "cores_used_by_others": round(others, 2)}
    directory = ELSEWHERE if options.quick or options.only else HERE
    _write(directory, head, rows, points)
    _tell(console, rows, points)
    console.print(
        f"\n{duration_s:.0f} s, other programs used {others:.2f} of {os.cpu_count()} cores "
        f"meanwhile; written to {os.path.relpath(directory)}"
    )


def _hold(contests: Sequence[Contest], stage: Stage, console: Console) -> list[Row]:
    rows: list[Row] = []
    for contest in contests:
        began = time.monotonic()
        found = contest.rows(stage)
        rows += found
        ratios = ", ".join(f"{one.name} {one.ratio:.3g}" for one in found)
        console.log(f"{contest.name}, {time.monotonic() - began:.0f} s: {ratios}")
    return rows


def _write(
    directory: Path, head: dict[str, Any], rows: Sequence[Row], points: Sequence[Point]
) -> None:
    directory.mkdir(parents=True, exist_ok=True)
    found = {
        "points": [asdict(point) for point in points],
        "faster_than_the_work": growth.too_fast(points),
    }
    report.write_json(directory / "results.json", head, rows, found)
    short = [f"- {sentence}" for sentence in [*report.shortfalls(rows), *growth.too_fast(points)]]
    parts = (report.markdown(rows), short, growth.markdown(points) if points else [])
    (directory / "results.md").write_text("\n\n".join("\n".join(part) for part in parts) + "\n")
    if rows:
        plots.plot_rows(directory / "results.png", rows)
    if points:
        plots.plot_growth(directory / "growth.png", points)


def _tell(console: Console, rows: Sequence[Row], points: Sequence[Point]) -> None:
    if rows:
        console.print(report.table(rows))
    if points:
        console.print(growth.table(points))
    for sentence in [*report.shortfalls(rows), *growth.too_fast(points)]:
        console.print(f"- {sentence}", highlight=False)


def _head(stage: Stage, *, quick: bool) -> dict[str, Any]:
    """When, where and with what: figures say little without it."""
    server = stage.services.redis.info("server")
    with stage.connect_postgres() as postgres:
        postgres_version = postgres.info.parameter_status("server_version")
    redis_version = server.get("valkey_version") or server["redis_version"]
    packages = ("celery", "kombu", "dramatiq", "redis", "hiredis", "sqlalchemy", "psycopg")
    return {
        "at": datetime.now(UTC).isoformat(timespec="seconds"),
        "quick": quick,
        "cpus": os.cpu_count(),
        "machine": platform.machine(),
        "appendfsync": "everysec",
        "versions": {
            "python": platform.python_version(),
            server.get("server_name", "redis"): redis_version,
            "postgres": postgres_version,
            **{name: version(name) for name in packages},
        },
    }


def _options() -> argparse.Namespace:
    names = [contest.name for contest in CONTESTS]
    names += [one.name for contest in CONTESTS for one in contest.comparisons]
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description=__doc__)
    parser.add_argument("--quick", action="store_true", help="small sizes, about three minutes")
    parser.add_argument(
        "--only",
        nargs="+",
        default=[],
        metavar="NAME",
        choices=[*names, GROWTH],
        help=f"contests or rows to run: {', '.join([*names, GROWTH])}",
    )
    return parser.parse_args()


if __name__ == "__main__":
    main()
