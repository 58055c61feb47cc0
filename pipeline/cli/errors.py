"""From an exception to the one line a user reads, or None when the exception is a fault of ours."""

from __future__ import annotations

import sys
from types import ModuleType

from pipeline.errors import PipelineError


def explain(error: BaseException) -> str | None:
    """What was wrong and what to do, on one line; None for an exception nobody expected.

    Looks only into libraries that are loaded already: what they raise can come from nowhere else.
    """
    for one in _chain(error):
        text = _explain(one)
        if text is not None:
            return " ".join(text.split())
    return None


def _chain(error: BaseException) -> list[BaseException]:
    """The error and what it was raised from (`raise … from`)."""
    chain = [error]
    while (cause := chain[-1].__cause__) is not None and cause not in chain:
        chain.append(cause)
    return chain


def _explain(error: BaseException) -> str | None:
    if isinstance(error, PipelineError):
        return str(error)
    return _explain_redis(error) or _explain_postgres(error) or _explain_system(error)


def _explain_redis(error: BaseException) -> str | None:
    kombu = sys.modules.get("kombu.exceptions")
    if kombu is not None and isinstance(error, kombu.OperationalError):
        return (
            f"the broker does not answer ({error}); start it, or correct ANALYTICS_REDIS_URL "
            "(ANALYTICS_BROKER_URL where that is set)"
        )
    redis = sys.modules.get("redis.exceptions")
    if redis is None or not isinstance(error, redis.RedisError):
        return None
    if isinstance(error, redis.AuthenticationError):
        return f"Redis refused the password ({error}); correct ANALYTICS_REDIS_URL"
    if isinstance(error, redis.ConnectionError | redis.TimeoutError):
        return (
            f"Redis does not answer ({error}); start it, or set ANALYTICS_REDIS_URL "
            "(`analytics up` starts private servers)"
        )
    return f"Redis refused: {error}"


def _explain_postgres(error: BaseException) -> str | None:
    psycopg = sys.modules.get("psycopg")
    original = getattr(error, "orig", error)  # SQLAlchemy wraps what the driver raised
    if psycopg is not None and isinstance(original, psycopg.Error):
        return _explain_driver(psycopg, original)
    sqlalchemy = sys.modules.get("sqlalchemy.exc")
    if sqlalchemy is not None and isinstance(error, sqlalchemy.ArgumentError):
        return f"the address of Postgres is wrong ({error}); correct ANALYTICS_POSTGRES_URL"
    if sqlalchemy is not None and isinstance(error, sqlalchemy.SQLAlchemyError):
        return f"Postgres failed: {error}"
    return None


def _explain_driver(psycopg: ModuleType, error: Exception) -> str:
    if isinstance(error, psycopg.errors.UndefinedTable | psycopg.errors.UndefinedColumn):
        return "the tables in Postgres are missing or old; run `analytics migrate`"
    if isinstance(error, psycopg.errors.InvalidPassword | psycopg.errors.InvalidCatalogName):
        return f"Postgres refused ({error}); correct ANALYTICS_POSTGRES_URL"
    if isinstance(error, psycopg.OperationalError):
        if "authentication failed" in str(error) or "does not exist" in str(error):
            return f"Postgres refused ({error}); correct ANALYTICS_POSTGRES_URL"
        return (
            f"Postgres does not answer ({error}); start it, or set ANALYTICS_POSTGRES_URL "
            "(`analytics up` starts private servers)"
        )
    return f"Postgres refused: {error}"


def _explain_system(error: BaseException) -> str | None:
    """A full disk, a directory that may not be written, and the like."""
    if isinstance(error, OSError) and error.strerror:
        where = f" ({error.filename})" if error.filename else ""
        return f"the system refused: {error.strerror}{where}; correct that and try again"
    return None
