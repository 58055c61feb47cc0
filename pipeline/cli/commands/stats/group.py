"""The group of commands `analytics stats`, to which the modules beside add theirs, and what they
share."""

from __future__ import annotations

from datetime import date

import typer

from pipeline.cli.output import warn

commands = typer.Typer(no_args_is_help=True, rich_markup_mode=None)


def explain(note: str) -> None:
    """Say why there is nothing, on standard error: with --json too, and beside the number."""
    if note:
        warn(note)


def format_days(first: date, last: date) -> str:
    """A day, or a range of days."""
    return first.isoformat() if first == last else f"{first.isoformat()} to {last.isoformat()}"
