"""Commands print a table for people, JSON or CSV: one of them."""

from __future__ import annotations

import sys

import pytest

from pipeline.cli import main
from pipeline.cli.output import print_csv


@pytest.mark.parametrize("formats", [("--json", "--csv"), ("--csv", "--json")])
@pytest.mark.parametrize(
    "command", ["count sale", "hourly sale --date 2026-01-31", "top sale user", "user u1"]
)
def test_one_format_is_asked_for_and_not_two(
    capsys: pytest.CaptureFixture[str], command: str, formats: tuple[str, str]
) -> None:
    with pytest.raises(SystemExit) as ended:
        main(["stats", *command.split(), *formats])

    first, second = formats
    out, err = capsys.readouterr()
    assert ended.value.code == 2
    assert out == ""
    assert err == (
        f"analytics: Invalid value for '{second}': cannot be given with {first}: "
        "leave one of them out\n"
    )


def test_a_csv_has_one_header_plain_numbers_and_no_formula(
    capsys: pytest.CaptureFixture[str],
) -> None:
    print_csv(["value", "count"], [("=1+1", 1_234_567), ('a "b", c', None), ("\t@SUM(A1)", -2)])

    assert capsys.readouterr().out == (
        'value,count\n\'=1+1,1234567\n"a ""b"", c",\n\'\t@SUM(A1),-2\n'
    )


def test_a_csv_gives_a_terminal_nothing_to_obey_and_a_pipe_every_value(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    rows = [("a\x1b[2Jb", 1), ("two\nlines", 2)]

    print_csv(["value", "count"], rows)
    piped = capsys.readouterr().out
    monkeypatch.setattr(sys.stdout, "isatty", lambda: True)
    print_csv(["value", "count"], rows)
    shown = capsys.readouterr().out

    assert piped == 'value,count\na\x1b[2Jb,1\n"two\nlines",2\n'
    assert shown == 'value,count\na\\x1b[2Jb,1\n"two\nlines",2\n'
