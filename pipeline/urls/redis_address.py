"""URLs of Redis: one server, or Sentinels joined by `;`, taken apart for redis-py and for kombu.

    redis://USER:PASSWORD@HOST:6379/0
    rediss://USER:PASSWORD@[::1]:6380/0?ssl_ca_certs=/etc/ca.pem
    sentinel://USER:PASSWORD@HOST:26379;sentinel://USER:PASSWORD@HOST2:26379/0?master_name=NAME

User and password are those of the servers; Sentinels have their own in `sentinel_username` and
`sentinel_password`. Only the standard library is used here, because applications load this module
with the producer.
"""

from __future__ import annotations

import ssl
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any
from urllib.parse import unquote, urlsplit

from pipeline import urls

_SENTINEL_PORT = 26_379
_SWITCHES = {"true": True, "1": True, "yes": True, "false": False, "0": False, "no": False}
_VERSIONS = {"TLSv1.2": ssl.TLSVersion.TLSv1_2, "TLSv1.3": ssl.TLSVersion.TLSv1_3}


@dataclass(frozen=True)
class RedisAddress:
    """A Redis URL taken apart: `servers` are bare URLs, one or (Sentinel) several; `credentials`,
    `tls` and `sentinel_options` are options of redis-py's clients."""

    scheme: str
    servers: tuple[str, ...]
    database: int
    master_name: str | None
    credentials: Mapping[str, str]
    tls: Mapping[str, Any]
    """With `ssl_cert_reqs` and all else that a connection with TLS needs; empty without TLS."""
    sentinel_options: Mapping[str, Any]
    """What connects to a Sentinel: its own user and password, and TLS."""

    @property
    def sentinels(self) -> list[tuple[str, int]]:
        """Host and port of every Sentinel."""
        parts = [urlsplit(server) for server in self.servers]
        return [(part.hostname or "", part.port or _SENTINEL_PORT) for part in parts]

    @property
    def broker_url(self) -> str:
        """The URL for Celery."""
        return ";".join(f"{server}/{self.database}" for server in self.servers)

    def celery_options(self, transport_options: Mapping[str, Any]) -> dict[str, Any]:
        """Celery's options for this broker; `transport_options` are those of any."""
        transport = dict(transport_options)
        if self.master_name is not None:
            transport["master_name"] = self.master_name
            names = ("socket_timeout", "socket_connect_timeout", "socket_keepalive")
            timeouts = {name: transport[name] for name in names if name in transport}
            transport["sentinel_kwargs"] = {**timeouts, **self.sentinel_options}
        options = {"broker_url": self.broker_url, "broker_transport_options": transport}
        if self.tls:  # kombu does not verify a certificate unless it is told to
            options["broker_use_ssl"] = dict(self.tls)
        return options


def parse_redis_url(url: str) -> RedisAddress:
    """Take a URL of a Redis server, or of several Sentinels joined by `;`, apart.

    Only parameters that every client of the URL understands are let through: the same URL serves
    kombu and redis-py. Raises ValueError that says what is wrong and does not show the URL.
    """
    addresses, _, query = url.partition("?")
    parts = [urls.split_url(address, urls.REDIS_SCHEMES) for address in addresses.split(";")]
    scheme = parts[0].scheme
    if len(parts) > 1 and any(part.scheme != "sentinel" for part in parts):
        raise ValueError("only sentinel:// addresses can be joined with ';'")
    if any(part.path.strip("/") for part in parts[:-1]):
        raise ValueError("put the database number after the last address only")
    for part in parts:
        if not part.hostname:
            raise ValueError("names no host; the form is redis://:PASSWORD@HOST:6379/0")
    own = {(part.username or None, part.password) for part in parts} - {(None, None)}
    if len(own) > 1:
        raise ValueError(
            "gives several users or passwords: those of the servers are the same in every address, "
            "and those of the Sentinels go into sentinel_username and sentinel_password"
        )
    parameters = urls.read_parameters(scheme, query)
    user, password = own.pop() if own else (None, None)
    tls = read_tls(scheme, parameters)
    return RedisAddress(
        scheme=scheme,
        servers=tuple(f"{part.scheme}://{part.netloc}" for part in parts),
        database=_database_number(parts[-1].path),
        master_name=parameters.get("master_name"),
        credentials=_credentials(user, password),
        tls=tls,
        sentinel_options={
            **{
                name.removeprefix("sentinel_"): parameters[name]
                for name in ("sentinel_username", "sentinel_password")
                if parameters.get(name)
            },
            **({"ssl": True, **tls} if tls else {}),
        },
    )


def read_tls(scheme: str, parameters: Mapping[str, str]) -> dict[str, Any]:
    """The options of redis-py for the TLS of a URL; empty where it has none. Raises ValueError."""
    given = {name: value for name, value in parameters.items() if name in urls.REDIS_TLS_PARAMETERS}
    if scheme == "sentinel" and not _read_switch("ssl", parameters.get("ssl", "false")):
        if given:
            raise ValueError(f"{', '.join(given)} need ssl=true in a sentinel:// URL")
        return {}
    if scheme == "redis":
        return {}
    options: dict[str, Any] = {"ssl_cert_reqs": "required", **given}
    checks = _read_switch("ssl_check_hostname", given.get("ssl_check_hostname", "true"))
    # Said always: redis-py before 6 does not check it by itself. Python refuses to check the name
    # of a certificate that is not verified.
    options["ssl_check_hostname"] = checks and options["ssl_cert_reqs"] != "none"
    if "ssl_min_version" in given:
        if given["ssl_min_version"] not in _VERSIONS:
            raise ValueError(f"ssl_min_version must be one of: {', '.join(_VERSIONS)}")
        options["ssl_min_version"] = _VERSIONS[given["ssl_min_version"]]
    return options


def _read_switch(name: str, text: str) -> bool:
    if text.lower() not in _SWITCHES:
        raise ValueError(f"{name} must be true or false")
    return _SWITCHES[text.lower()]


def _credentials(user: str | None, password: str | None) -> dict[str, str]:
    given = {"username": user, "password": password}
    return {name: unquote(value) for name, value in given.items() if value}


def _database_number(path: str) -> int:
    database = path.strip("/")
    if database and not (database.isascii() and database.isdecimal()):
        raise ValueError("what follows the address must be a database number, such as /0")
    return int(database or 0)
