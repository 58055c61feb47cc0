"""What commands print cannot command a terminal."""

from __future__ import annotations

import json

import pytest

from pipeline.cli.output import print_json, warn

HOSTILE = "a\x1b[2Jb\x9b31mc\u202ed\u2066e\u2028f\u200bg\U000e0001h"


def test_json_has_no_character_that_a_terminal_obeys(capsys: pytest.CaptureFixture[str]) -> None:
    print_json({HOSTILE: [HOSTILE, "é語😀 ok"]})

    line = capsys.readouterr().out
    assert line.endswith("\n")
    assert line[:-1].isprintable()
    assert "é語😀 ok" in line
    assert json.loads(line) == {HOSTILE: [HOSTILE, "é語😀 ok"]}


def test_an_error_that_repeats_what_was_given_has_no_character_that_a_terminal_obeys(
    capsys: pytest.CaptureFixture[str],
) -> None:
    warn(f"one {HOSTILE} é\ntwo")

    first, second = capsys.readouterr().err.splitlines()
    assert first.isprintable()
    assert "é" in first
    assert second == "two"
