"""`analytics stats`: what was counted. Each module adds its commands to the group."""

from __future__ import annotations

import typer

from pipeline.cli.commands.stats import catalogue, counts, journeys, people, series, sums
from pipeline.cli.commands.stats.group import commands

MODULES = (counts, series, sums, people, catalogue, journeys)
"""In the order in which `--help` lists their commands."""


def register(app: typer.Typer) -> None:
    """Add the group."""
    app.add_typer(
        commands,
        name="stats",
        help="Read counts: exact at any moment, flushed or not.",
        epilog="Example: analytics stats count page_view",
    )
