"""The `analytics` command."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from typing import NoReturn

from pipeline.errors import InvalidConfiguration
from pipeline.system.extras import check_server

__all__ = ["main"]


def main(arguments: Sequence[str] | None = None) -> NoReturn:
    """Run the `analytics` command and exit: with one line, where there is no more than an
    application needs to send events."""
    try:
        check_server()
    except InvalidConfiguration as error:
        sys.exit(f"analytics: {error}")
    from pipeline.cli import app

    app.main(arguments)
