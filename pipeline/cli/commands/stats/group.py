"""The group of commands `analytics stats`, to which the modules beside add theirs."""

from __future__ import annotations

import typer

commands = typer.Typer(no_args_is_help=True, rich_markup_mode=None)
