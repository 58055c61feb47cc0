"""A server is known from the type of its error or of a cause of it, whatever the text says."""

from __future__ import annotations

import subprocess
import sys

import psycopg
import pytest
import redis
from kombu.exceptions import OperationalError as BrokerError
from sqlalchemy import exc

from pipeline.errors import (
    InvalidConfiguration,
    PipelineError,
    RedisWentBack,
    ServerUnavailable,
)
from pipeline.redis.client import redis_client
from pipeline.server_errors import Server, describe, find_server, report_errors
from tests.helpers.support import ROOT

MISLEADING = "the database Postgres, no: Redis, or the broker: password does not exist"


def wrapped(error: psycopg.Error) -> exc.DBAPIError:
    made = exc.DBAPIError.instance("SELECT 1", None, error, psycopg.Error)
    assert isinstance(made, exc.DBAPIError)
    return made


def raised_from(cause: BaseException) -> PipelineError:
    try:
        raise ServerUnavailable(MISLEADING) from cause
    except ServerUnavailable as error:
        return error


ERRORS = [
    (redis.ConnectionError(MISLEADING), Server.REDIS),
    (redis.TimeoutError(MISLEADING), Server.REDIS),
    (redis.ResponseError(MISLEADING), Server.REDIS),
    (redis.exceptions.BusyLoadingError(MISLEADING), Server.REDIS),
    (RedisWentBack(MISLEADING), Server.REDIS),
    (psycopg.OperationalError(MISLEADING), Server.POSTGRES),
    (wrapped(psycopg.OperationalError(MISLEADING)), Server.POSTGRES),
    (wrapped(psycopg.errors.UndefinedTable(MISLEADING)), Server.POSTGRES),
    (exc.TimeoutError(MISLEADING), Server.POSTGRES),
    (BrokerError(MISLEADING), Server.BROKER),
]


@pytest.mark.parametrize(("error", "server"), ERRORS)
def test_a_server_is_known_from_the_type_of_its_error(error: Exception, server: Server) -> None:
    assert find_server(error) is server
    assert find_server(raised_from(error)) is server
    assert find_server(raised_from(raised_from(error))) is server


@pytest.mark.parametrize(
    "error", [ValueError(MISLEADING), InvalidConfiguration(MISLEADING), OSError(2, MISLEADING)]
)
def test_an_error_that_no_server_raised_names_none(error: Exception) -> None:
    assert find_server(error) is None
    assert describe(error) is None


def test_an_error_of_one_server_is_not_reported_as_that_of_another() -> None:
    with (
        redis_client("redis://127.0.0.1:1/0") as client,
        pytest.raises(exc.OperationalError),
        report_errors(redis=client),
    ):
        raise wrapped(psycopg.OperationalError(MISLEADING))


def test_a_reason_with_braces_is_shown_as_it_is() -> None:
    assert describe(redis.ConnectionError("{place}")) == (
        "Redis does not answer ({place}); start it, or set ANALYTICS_REDIS_URL "
        "(`analytics up` starts private servers)"
    )


def test_a_sending_application_loads_no_database_code_for_it() -> None:
    code = (
        "import sys; from pipeline.redis.client import redis_client; "
        "from pipeline.server_errors import describe; describe(ValueError()); "
        "assert not {'sqlalchemy', 'psycopg'} & set(sys.modules)"
    )
    subprocess.run([sys.executable, "-c", code], check=True, cwd=ROOT)
