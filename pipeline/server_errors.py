"""A server's error in words: which server it came from, what is wrong there, and what to do.

The server is known from the type of an exception, or of the one it was raised from, and never from
its text: the message of one server may name another. Only libraries that are loaded already are
asked, as what they raise can come from nowhere else; so a sending application loads no database
code for this.
"""

from __future__ import annotations

import os
import re
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from enum import Enum, auto
from typing import TYPE_CHECKING, NamedTuple

from pipeline.errors import InvalidConfiguration, PipelineError, RedisWentBack, ServerUnavailable

if TYPE_CHECKING:
    import redis
    from sqlalchemy import URL, Engine

FAILED_STATUS = 1
SERVER_AWAY_STATUS = 3


class Server(str, Enum):
    """A server that the pipeline needs, as messages name it."""

    REDIS = "Redis"
    POSTGRES = "Postgres"
    BROKER = "the broker"

    __str__ = str.__str__  # that of StrEnum, which Python 3.10 does not have


class Fault(Enum):
    """What is wrong with a server."""

    AWAY = auto()
    READ_ONLY = auto()
    """It is a standby, or is set to refuse changes."""
    FULL = auto()
    """It has no disk space, no memory or no connection left."""
    BUSY = auto()
    """Something else was in the way, or took too long."""
    NO_TRANSACTIONS = auto()
    """A pooler gives each statement to another session."""
    NO_STARTUP_OPTIONS = auto()
    """A pooler refuses an option of the connection."""
    NO_ACCESS = auto()
    """It refuses the user or the password, or has no such database or user."""
    NO_PERMISSION = auto()
    NO_DATABASE = auto()
    NO_TABLES = auto()
    OLD_TABLES = auto()
    WRONG_URL = auto()
    REFUSED = auto()
    """It does not do what it was asked."""
    FAILED = auto()
    """The library that speaks to it gave up."""


_PASSING = (Fault.AWAY, Fault.READ_ONLY, Fault.FULL, Fault.BUSY)
"""The same may succeed later."""
_BY_SQLSTATE = {
    "25006": Fault.READ_ONLY,
    "53": Fault.FULL,
    "40": Fault.BUSY,
    "55P03": Fault.BUSY,
    "57014": Fault.BUSY,
    "08": Fault.AWAY,
    "25P": Fault.AWAY,
    "57P": Fault.AWAY,
    "28": Fault.NO_ACCESS,
    "3D": Fault.NO_ACCESS,
    "42P01": Fault.NO_TABLES,
    "42703": Fault.OLD_TABLES,
}
"""By the beginning of the SQLSTATE."""
_ATTEMPT = re.compile(r"\n- host: .*, hostaddr: (?:'[^']*'|None): (?:connection failed: )?(.*)")
_BY_TEXT = (
    (Fault.NO_TRANSACTIONS, ("statement pooling mode",)),
    (Fault.NO_STARTUP_OPTIONS, ("unsupported startup parameter",)),
    (Fault.FULL, ("too many clients", "too many connections", "connection slots are reserved")),
    (Fault.FULL, ("no more connections allowed",)),
    (Fault.READ_ONLY, ("session is read-only", "server is in hot standby mode")),
    (
        Fault.NO_ACCESS,
        ("password", "authentication", "does not exist", "no such database", "conversion between"),
    ),
    (Fault.NO_ACCESS, ("no such user", "no pg_hba.conf entry")),
)
"""For a connection that is refused, which comes without an SQLSTATE."""


class Diagnosis(NamedTuple):
    """What an exception of a server's library says."""

    server: Server
    fault: Fault
    reason: str


# What a command says; and what a process says that knows the server's address.
_WORDS = {
    (Server.BROKER, Fault.AWAY): "the broker does not answer ({reason}); start it, or correct "
    "ANALYTICS_REDIS_URL (ANALYTICS_BROKER_URL where that is set)",
    (Server.REDIS, Fault.AWAY): "Redis does not answer ({reason}); start it, or set "
    "ANALYTICS_REDIS_URL (`analytics up` starts private servers)",
    (Server.REDIS, Fault.NO_ACCESS): "Redis refused the password ({reason}); correct "
    "ANALYTICS_REDIS_URL",
    (Server.POSTGRES, Fault.AWAY): "Postgres does not answer ({reason}); start it, or set "
    "ANALYTICS_POSTGRES_URL (`analytics up` starts private servers)",
    (Server.POSTGRES, Fault.NO_ACCESS): "Postgres refused ({reason}); correct "
    "ANALYTICS_POSTGRES_URL",
    (Server.POSTGRES, Fault.NO_TABLES): "the tables in Postgres are missing or old; run "
    "`analytics migrate`",
    (Server.POSTGRES, Fault.OLD_TABLES): "the tables in Postgres are missing or old; run "
    "`analytics migrate`",
    (Server.POSTGRES, Fault.WRONG_URL): "the address of Postgres is wrong ({reason}); correct "
    "ANALYTICS_POSTGRES_URL",
    (Server.POSTGRES, Fault.FAILED): "Postgres failed: {reason}",
}
_WORDS_WITH_ADDRESS = {
    (Server.REDIS, Fault.AWAY): "Redis at {place} does not answer ({reason}): start it, or "
    "correct ANALYTICS_REDIS_URL",
    (Server.REDIS, Fault.NO_ACCESS): "Redis at {place} refuses the user or password ({reason}): "
    "correct ANALYTICS_REDIS_URL",
    (Server.REDIS, Fault.NO_PERMISSION): "Redis at {place} does not allow its user what is needed "
    "({reason}): give it the rights of docs/guides/deploying/redis-rights.md",
    (Server.REDIS, Fault.NO_DATABASE): "Redis at {place} has no database {database} ({reason}): "
    "correct ANALYTICS_REDIS_URL",
    (Server.POSTGRES, Fault.AWAY): "Postgres at {place} does not answer ({reason}): start it, or "
    "correct ANALYTICS_POSTGRES_URL",
    (Server.POSTGRES, Fault.NO_ACCESS): "Postgres at {place} refuses the connection ({reason}): "
    "correct ANALYTICS_POSTGRES_URL",
    (Server.POSTGRES, Fault.READ_ONLY): "Postgres at {place} takes no changes ({reason}): it is a "
    "standby, or default_transaction_read_only is on. Have ANALYTICS_POSTGRES_URL lead to the "
    "primary; what is counted waits in Redis, and the next try connects anew",
    (Server.POSTGRES, Fault.FULL): "Postgres at {place} has no room ({reason}): give it disk "
    "space, memory or connections; what is counted waits in Redis, and is stored then",
    (Server.POSTGRES, Fault.BUSY): "Postgres at {place} was not free in time ({reason}): try "
    "again; pg_stat_activity shows what is in the way",
    (Server.POSTGRES, Fault.NO_TRANSACTIONS): "the pooler at {place} gives every statement to "
    "another session ({reason}): set its pool_mode to transaction or session",
    (Server.POSTGRES, Fault.NO_STARTUP_OPTIONS): "the pooler at {place} refuses an option of the "
    "connection ({reason}): take it out of ANALYTICS_POSTGRES_URL and set it in Postgres (ALTER "
    "ROLE … SET …), or name it in the pooler's ignore_startup_parameters",
    (Server.POSTGRES, Fault.NO_TABLES): "the database at {place} lacks our tables ({reason}): "
    "run `analytics migrate`",
}


def describe(error: BaseException) -> str | None:
    """What is wrong with a server and what to do, by the exception's type; None for one that no
    server's library raised."""
    found = diagnose(error)
    if found is None:
        return None
    words = _WORDS.get((found.server, found.fault), "{server} refused: {reason}")
    return words.format(server=found.server, reason=found.reason)


def find_server(error: BaseException) -> Server | None:
    """The server that an exception came from: its own type or that of a cause of it says so."""
    for one in walk_causes(error):
        if isinstance(one, RedisWentBack):
            return Server.REDIS
        found = diagnose(one)
        if found is not None:
            return found.server
    return None


def is_server_away(error: BaseException) -> bool:
    """Whether this is about a server that does not answer, or not now: the same may succeed
    later."""
    for one in walk_causes(error):
        found = diagnose(one)
        if isinstance(one, ServerUnavailable) or (found and found.fault in _PASSING):
            return True
    return False


def find_exit_status(error: BaseException) -> int:
    """The exit status of a process that this error ends: a server that does not answer has one of
    its own, since the same may succeed later."""
    return SERVER_AWAY_STATUS if is_server_away(error) else FAILED_STATUS


def walk_causes(error: BaseException) -> Iterator[BaseException]:
    """The error and what it was raised from (`raise … from`)."""
    seen: list[BaseException] = []
    one: BaseException | None = error
    while one is not None and one not in seen:
        seen.append(one)
        yield one
        one = one.__cause__


@contextmanager
def report_errors(
    *, redis: redis.Redis | None = None, postgres: Engine | None = None
) -> Iterator[None]:
    """Turn the ways in which these servers can be out of reach into one clear error each:
    `ServerUnavailable` or `InvalidConfiguration`. Others pass through as they are."""
    try:
        yield
    except Exception as error:
        reported = None
        found = diagnose(error)
        if found is not None and found.server is Server.REDIS and redis is not None:
            at = redis.connection_pool.connection_kwargs
            reported = _with_address(found, _name_redis(redis), at.get("db"))
        elif found is not None and found.server is Server.POSTGRES and postgres is not None:
            reported = _with_address(found, _name_place(postgres.url), postgres.url.database)
        if reported is None:
            raise
        raise reported from error


def _with_address(found: Diagnosis, place: str, database: object) -> PipelineError | None:
    words = _WORDS_WITH_ADDRESS.get((found.server, found.fault))
    if words is None:
        return None
    reason = found.reason.strip().partition("\n")[0].strip()
    text = words.format(place=place, database=database, reason=reason)
    return (ServerUnavailable if found.fault in _PASSING else InvalidConfiguration)(text)


def _name_redis(client: redis.Redis) -> str:
    """Where the Redis of a client is, or its master's name where Sentinels know that."""
    pool = client.connection_pool
    name = getattr(pool, "service_name", None)
    if name is not None:
        return f"the master {name} of the Sentinels"
    host = str(pool.connection_kwargs.get("host", "localhost"))
    port = pool.connection_kwargs.get("port", 6379)
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"


def _name_place(url: URL) -> str:
    """Where the Postgres of a URL of SQLAlchemy is: one host, several, a service, or what libpq
    takes where none is named."""
    several = url.query.get("host")
    if several is not None:
        return several if isinstance(several, str) else ",".join(several)
    if url.host is None:
        named = url.query.get("service")
        return f"service {named}" if named else os.environ.get("PGHOST", "the default address")
    host = f"[{url.host}]" if ":" in url.host else url.host
    return host if host.startswith("/") else f"{host}:{url.port or 5432}"


def diagnose(error: BaseException) -> Diagnosis | None:
    """The server that raised this exception, and why; None when no server's library did."""
    return _diagnose_redis(error) or _diagnose_postgres(error) or _diagnose_broker(error)


def _diagnose_redis(error: BaseException) -> Diagnosis | None:
    redis = sys.modules.get("redis.exceptions")
    if redis is None or not isinstance(error, redis.RedisError):
        return None
    fault = Fault.REFUSED
    if isinstance(error, redis.AuthenticationError):
        fault = Fault.NO_ACCESS
    elif isinstance(error, redis.NoPermissionError):
        fault = Fault.NO_PERMISSION
    elif isinstance(error, redis.ConnectionError | redis.TimeoutError):
        fault = Fault.AWAY
    elif isinstance(error, redis.ResponseError) and "DB index" in str(error):
        fault = Fault.NO_DATABASE
    return Diagnosis(Server.REDIS, fault, str(error))


def _diagnose_postgres(error: BaseException) -> Diagnosis | None:
    psycopg, sqlalchemy = sys.modules.get("psycopg"), sys.modules.get("sqlalchemy.exc")
    original = getattr(error, "orig", error)  # SQLAlchemy wraps what the driver raised
    if psycopg is not None and isinstance(original, psycopg.Error):
        reason = _list_attempts(str(original)) or type(original).__name__
        return Diagnosis(Server.POSTGRES, _find_fault(original), reason)
    if sqlalchemy is None or not isinstance(error, sqlalchemy.SQLAlchemyError):
        return None
    wrong_url = isinstance(error, sqlalchemy.ArgumentError)
    fault = Fault.WRONG_URL if wrong_url else Fault.FAILED
    return Diagnosis(Server.POSTGRES, fault, str(error))


def _list_attempts(said: str) -> str:
    """What psycopg says; of several hosts or addresses, what it says of each, on one line."""
    return "; ".join(dict.fromkeys(_ATTEMPT.findall(said))) or said


def _find_fault(error: Exception) -> Fault:
    state: str = getattr(error, "sqlstate", None) or ""
    text = str(error) if not state or state == "08P01" else ""
    if isinstance(error, sys.modules["psycopg"].OperationalError):
        for fault, said in _BY_TEXT:
            if any(one in text for one in said):
                return fault
        other = Fault.AWAY
    else:
        other = Fault.REFUSED
    found = (fault for start, fault in _BY_SQLSTATE.items() if state.startswith(start))
    return next(found, other)


def _diagnose_broker(error: BaseException) -> Diagnosis | None:
    kombu = sys.modules.get("kombu.exceptions")
    if kombu is None or not isinstance(error, kombu.OperationalError):
        return None
    return Diagnosis(Server.BROKER, Fault.AWAY, str(error))
