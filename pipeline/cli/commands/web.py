"""`analytics web`: the collector and the stats API."""

from __future__ import annotations

from typing import Annotated

import typer

from pipeline.cli import context
from pipeline.errors import InvalidConfiguration, ServerUnavailable
from pipeline.system.launcher import end_with_parent


def register(app: typer.Typer) -> None:
    """Add the commands of this module."""
    app.command(epilog="Example: analytics web --port 8080")(web)


def web(
    port: Annotated[
        int | None, typer.Option(min=1, max=65535, help="Port; else ANALYTICS_WEB_PORT.")
    ] = None,
    host: Annotated[
        str, typer.Option(help="Address to listen on; 0.0.0.0 for all of this machine's.")
    ] = "127.0.0.1",
    parent_pid: Annotated[
        int | None, typer.Option(hidden=True, help="End when this process ends.")
    ] = None,
) -> None:
    """Serve the collector and the stats API over HTTP until stopped.

    Put a proxy with TLS before it where it is reached from outside.
    """
    if parent_pid is not None:
        end_with_parent(parent_pid)
    from config import logging

    settings = context.load_settings()
    logging.configure(settings.log_level, settings.log_format)
    chosen = port or settings.web_port
    if not chosen:
        raise InvalidConfiguration("ANALYTICS_WEB_PORT=0 turns the web server off; give --port")
    from pipeline.web import main

    main.begin_telemetry(settings)
    urls = context.find_redis_url(settings), context.find_postgres_url(settings)
    dependencies = main.create_dependencies(settings, *urls)
    try:
        dependencies.services.check_owner()
    except ServerUnavailable:
        pass  # events are taken all the same
    except InvalidConfiguration:
        dependencies.services.close()
        raise
    main.serve(dependencies, host, chosen)
