"""The benchmarks' arithmetic, and the shape of what they write."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

import pytest

from benchmarks.contests.growth import Point, markdown, too_fast
from benchmarks.report.readme import replace_table, with_ratios
from benchmarks.report.report import (
    Comparison,
    Measured,
    Sense,
    is_met,
    progress_to_target,
    ratio_of,
    row,
    shortfalls,
    write_json,
)
from benchmarks.rows import CONTESTS, chosen

CALLS = Comparison(
    name="delay-celery",
    what="a call",
    ours="delay",
    rival="celery",
    rival_is="Celery's own",
    unit="µs",
    sense=Sense.LESS_TIME,
    target=6,
)
SAMPLES = Measured({"delay": [100, 90, 300], "celery": [700, 650, 600]}, {"delay-celery": "Why."})
POINT = Point(
    counters=10_000,
    bytes_per_counter=150,
    bytes_per_unacknowledged=1_400,
    flush_s=0.2,
    read_us=900,
    flusher_bytes=80 * 2**20,
    flusher_grew_bytes=5 * 2**20,
    stall_ms=4,
    command_ms=2,
    command="HSCAN key 0",
)


def test_a_row_has_the_medians_of_both_sides_and_their_spread() -> None:
    found = row(CALLS, SAMPLES)

    assert (found.ours, found.ours_spread) == (100, (90, 300))
    assert (found.rival, found.rival_spread) == (650, (600, 700))
    assert (found.ratio, found.met, found.note) == (6.5, True, "Why.")


@pytest.mark.parametrize(
    ("sense", "ours", "rival", "ratio"),
    [
        (Sense.LESS_TIME, 100, 650, 6.5),
        (Sense.MORE_A_SECOND, 650, 100, 6.5),
        (Sense.AT_MOST, 650, 100, 6.5),
    ],
)
def test_a_ratio_is_of_what_the_row_is_about(
    sense: Sense, ours: float, rival: float, ratio: float
) -> None:
    assert ratio_of(sense, ours, rival) == ratio


@pytest.mark.parametrize(
    ("sense", "ratio", "target", "met"),
    [
        (Sense.LESS_TIME, 6.0, 6.0, True),
        (Sense.LESS_TIME, 5.9, 6.0, False),
        (Sense.MORE_A_SECOND, 0.86, 0.85, True),
        (Sense.MORE_A_SECOND, 0.84, 0.85, False),
        (Sense.AT_MOST, 3.0, 3.0, True),
        (Sense.AT_MOST, 3.1, 3.0, False),
        (Sense.LESS_TIME, 1.0, None, None),
    ],
)
def test_a_target_is_met_on_its_own_side(
    sense: Sense, ratio: float, target: float | None, met: bool | None
) -> None:
    assert is_met(sense, ratio, target) is met


def test_the_plot_shows_what_is_short_of_its_target_below_one_on_either_kind_of_row() -> None:
    short = row(replace(CALLS, target=13), SAMPLES)
    over = row(replace(CALLS, sense=Sense.AT_MOST, ours="celery", rival="delay"), SAMPLES)

    assert progress_to_target(short) == pytest.approx(0.5)
    assert progress_to_target(over) == pytest.approx(6 / 6.5)


def test_a_row_that_falls_short_is_told_with_its_reason() -> None:
    (sentence,) = shortfalls([row(CALLS, SAMPLES), row(replace(CALLS, target=7), SAMPLES)])

    assert sentence == (
        "delay-celery: a call is 100 µs beside 650 of Celery's own; that is 6.5 times less, and "
        "should be at least 7. Why."
    )


def test_the_results_are_a_head_and_a_list_of_rows(tmp_path: Path) -> None:
    path = tmp_path / "results.json"

    write_json(path, {"cpus": 2}, [row(CALLS, SAMPLES)], {"points": []})

    written = json.loads(path.read_text(encoding="utf-8"))
    assert written.keys() == {"head", "rows", "growth"}
    (found,) = written["rows"]
    expected: Mapping[str, object] = {
        "name": "delay-celery",
        "ours": 100,
        "rival": 650,
        "unit": "µs",
        "ratio": 6.5,
        "target": 6,
        "met": True,
        "rival_is": "Celery's own",
        "ours_spread": [90, 300],
        "rival_spread": [600, 700],
        "sense": "times less, at least",
    }
    assert {name: found[name] for name in expected} == expected


def test_the_committed_results_have_every_row_of_the_benchmarks() -> None:
    path = Path(__file__).parents[3] / "benchmarks" / "results.json"
    written = {one["name"] for one in json.loads(path.read_text(encoding="utf-8"))["rows"]}

    for contest in CONTESTS:
        assert {one.name for one in contest.comparisons} <= written
        assert {f"{name}-always" for name in contest.with_always} <= written


def test_a_contest_is_chosen_by_its_name_or_by_that_of_a_row() -> None:
    assert chosen([]) == list(CONTESTS)
    assert [contest.name for contest in chosen(["flush", "two-workers"])] == ["workers", "flush"]


def test_what_grows_with_the_work_is_no_fault_and_what_grows_faster_is() -> None:
    as_the_work = replace(POINT, counters=100_000, flush_s=2)
    faster = replace(POINT, counters=100_000, flush_s=4, read_us=9_000)

    assert too_fast([POINT, as_the_work]) == []
    assert [sentence.partition(" grows")[0] for sentence in too_fast([POINT, faster])] == [
        "flush of all counters",
        "daily_count while they are live",
    ]


def test_a_stall_of_redis_may_grow_up_to_its_limit() -> None:
    longer = replace(POINT, counters=100_000, flush_s=2, stall_ms=19)
    too_long = replace(longer, stall_ms=21)

    assert too_fast([POINT, longer]) == []
    assert too_fast([POINT, too_long]) == [
        "longest wait for Redis in a flush is 21.0 ms at 100,000, and should be at most 20; "
        "Redis's longest command was HSCAN key 0."
    ]


def test_what_is_not_measured_at_a_size_is_left_out_of_it() -> None:
    without = replace(POINT, counters=100_000, flush_s=2, bytes_per_unacknowledged=None)

    assert too_fast([POINT, without]) == []
    assert "| memory per unacknowledged event (bytes) | 1,400 | – |" in markdown([POINT, without])


def test_the_readme_shows_a_run_and_the_ratios_of_all() -> None:
    shown, other = row(CALLS, SAMPLES), replace(row(CALLS, SAMPLES), ratio=7)

    text = replace_table(
        "Before.\n\n| what | ours | …\n| --- |\n| old |\n\nAfter.\n",
        "| what | ours |",
        with_ratios([shown], [[shown], [other], []]),
    )

    assert text == (
        "Before.\n\n"
        "| what | ours | rival | ratio | to reach | met | all 3 runs |\n"
        "| --- | --- | --- | --- | --- | --- | --- |\n"
        "| a call | 100 µs | 650: Celery's own | 6.5 times less | at least 6 | yes | 6.5, 7, – |\n"
        "\nAfter.\n"
    )
    with pytest.raises(ValueError, match="no table begins with"):
        replace_table("Nothing.", "| what |", [])
