"""The address of Postgres, as libpq understands it, and the engine's URL that stands for it.

libpq itself takes the address apart, and finds what it does not name: several hosts, a service
file, a password file, certificates, `PG…` variables.
"""

from __future__ import annotations

import os
import re
from urllib.parse import unquote

import psycopg
from psycopg.conninfo import conninfo_to_dict
from sqlalchemy import URL

from pipeline.urls import is_pairs, normalise_postgres_url

_DRIVER = "postgresql+psycopg"
_CONNECT_TIMEOUT_S = 5
# A firewall or a lost host says nothing when it forgets a connection. Idle, this one is asked for
# after half a minute; with something sent and not acknowledged it ends after a quarter.
_NOTICE_LOSS = {
    "keepalives_idle": "30",
    "keepalives_interval": "5",
    "keepalives_count": "3",
    "tcp_user_timeout": "15000",
}
_PERCENT_ALONE = re.compile("%(?![0-9a-fA-F]{2})")
_HOST_AND_PORT = re.compile(r"([\w.-]*):(\d+)")
_QUOTED = re.compile('"[^"]*"?', re.DOTALL)


def read_address(address: str) -> dict[str, str]:
    """The parameters of a connection by libpq's names, those that an address gives. Raises
    ValueError that says what is wrong and quotes nothing that may be a password."""
    text = normalise_postgres_url(address)
    if not is_pairs(text):
        text = _write_for_libpq(text.replace(_DRIVER, "postgresql", 1))
    try:
        return {name: str(value) for name, value in conninfo_to_dict(text).items()}
    except psycopg.Error as error:
        said = str(error).strip().partition("\n")[0]
        raise ValueError(_QUOTED.sub("…", said)) from None


def complete_parameters(given: dict[str, str]) -> dict[str, str]:
    """What to connect with: what was given, and what we would have where that says nothing, be it
    by a variable or in a service file."""
    ours = {"fallback_application_name": "analytics"}
    has_service = "service" in given or "PGSERVICE" in os.environ
    if "PGCONNECT_TIMEOUT" not in os.environ:
        ours["connect_timeout"] = str(_CONNECT_TIMEOUT_S)
    return ours | ({} if has_service else _NOTICE_LOSS) | given | {"client_encoding": "UTF8"}


def make_engine_url(given: dict[str, str]) -> URL:
    """The URL that an engine shows: user, database, and where it is."""
    hosts = (given.get("host") or given.get("hostaddr") or "").split(",")
    ports = given.get("port", "").split(",")
    if len(ports) < len(hosts):
        ports = ports[:1] * len(hosts)
    query: dict[str, str | tuple[str, ...]] = {}
    if len(hosts) > 1:
        places = (_join(host, port) for host, port in zip(hosts, ports, strict=False))
        query["host"] = tuple(places)
    elif "service" in given:
        query["service"] = given["service"]
    return URL.create(
        _DRIVER,
        username=given.get("user"),
        password=given.get("password"),
        host=hosts[0] or None if len(hosts) == 1 else None,
        port=int(ports[0]) if len(hosts) == 1 and ports[0].isdecimal() else None,
        database=given.get("dbname"),
        query=query,
    )


def _join(host: str, port: str) -> str:
    shown = f"[{host}]" if ":" in host else host
    return f"{shown}:{port or 5432}"


def _write_for_libpq(url: str) -> str:
    """A URL that SQLAlchemy reads and libpq does not: a percent sign that stands for itself, and
    hosts with ports in the query."""
    address, mark, query = _PERCENT_ALONE.sub("%25", url).partition("?")
    parts = query.split("&")
    hosts = [unquote(part[5:]) for part in parts if part.startswith("host=")]
    pairs = [_HOST_AND_PORT.fullmatch(host) for host in hosts]
    if len(hosts) < 2 and not any(pairs):
        return address + mark + query
    named = [pair[1] if pair else host for pair, host in zip(pairs, hosts, strict=True)]
    parts = [part for part in parts if not part.startswith("host=")]
    parts.append("host=" + ",".join(named))
    if any(pairs):
        parts.append("port=" + ",".join(pair[2] if pair else "" for pair in pairs))
    return f"{address}?{'&'.join(parts)}"
