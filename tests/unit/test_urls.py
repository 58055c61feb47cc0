"""Addresses of Postgres: what libpq understands is taken as it is, and no secret is shown."""

from __future__ import annotations

import pytest

from pipeline.postgres.address import complete_parameters, make_engine_url, read_address
from pipeline.urls import mask_url, normalise_postgres_url

SECRET = "s3cret"

ADDRESSES = [
    (
        f"postgresql://me:{SECRET}@a,b/counts?target_session_attrs=read-write",
        {"host": "a,b", "port": ",", "target_session_attrs": "read-write"},
        "postgresql://me:***@a,b/counts?target_session_attrs=read-write",
    ),
    (
        f"postgres://me:{SECRET}@a:5433,[::1]:5434,c/counts",
        {"host": "a,::1,c", "port": "5433,5434,"},
        "postgres://me:***@a:5433,[::1]:5434,c/counts",
    ),
    (
        f"postgresql+psycopg://me:{SECRET}@[2001:db8::7]:6543/counts",
        {"host": "2001:db8::7", "port": "6543"},
        "postgresql+psycopg://me:***@[2001:db8::7]:6543/counts",
    ),
    (
        f"postgresql://me:{SECRET}@/counts?host=/var/run/postgresql",
        {"host": "/var/run/postgresql"},
        "postgresql://me:***@/counts?host=/var/run/postgresql",
    ),
    (
        f"postgresql://me:{SECRET}@%2Fvar%2Frun/counts",
        {"host": "/var/run"},
        "postgresql://me:***@%2Fvar%2Frun/counts",
    ),
    (
        f"postgresql:///counts?host=db&user=me&password={SECRET}",
        {"host": "db"},
        "postgresql:///counts?host=db&user=me&…",
    ),
    (
        f"postgresql:///counts?host=a:5433&host=b&user=me&password={SECRET}",
        {"host": "a,b", "port": "5433,"},
        "postgresql:///counts?host=a:5433&host=b&user=me&…",
    ),
    (
        f"host=db port=5433 dbname=counts user=me password={SECRET}",
        {"host": "db", "port": "5433"},
        "host=db port=5433 dbname=counts user=me …",
    ),
    (
        f"host = db dbname='counts' user=me password='{SECRET}' sslmode=verify-full",
        {"host": "db", "sslmode": "verify-full"},
        "host=db user=me sslmode=verify-full …",
    ),
    (
        f"postgresql://me:{SECRET}@db/counts?sslmode=require&sslrootcert=/etc/ca.pem&sslkey=/k",
        {"host": "db", "sslmode": "require", "sslrootcert": "/etc/ca.pem", "sslkey": "/k"},
        "postgresql://me:***@db/counts?sslmode=require&…",
    ),
]


@pytest.mark.parametrize(("address", "parameters", "shown"), ADDRESSES)
def test_an_address_is_taken_as_libpq_understands_it_and_shown_without_its_password(
    address: str, parameters: dict[str, str], shown: str
) -> None:
    given = read_address(normalise_postgres_url(address))
    assert given == {
        "user": "me",
        "password": SECRET,
        "dbname": "counts",
        **parameters,
    }
    assert mask_url(address) == shown
    assert SECRET not in repr(make_engine_url(given))


@pytest.mark.parametrize(
    ("written", "password"),
    [
        ("p%40ss%2Fword%3A%25%20%23", "p@ss/word:% #"),
        ("100%", "100%"),
        ("a%zz+b", "a%zz+b"),
        ("pa;ss;123", "pa;ss;123"),
        ("a,b:1,c", "a,b:1,c"),
    ],
)
def test_a_password_is_read_as_it_was_meant_and_no_part_of_it_shown(
    written: str, password: str
) -> None:
    url = f"postgresql://me:{written}@a:1,b:2/counts"
    assert read_address(url)["password"] == password
    assert mask_url(url) == "postgresql://me:***@a:1,b:2/counts"


def test_a_password_in_quotes_is_read_as_it_was_meant() -> None:
    pairs = r"dbname=counts password='it\'s \\ a = secret' user=me"
    assert read_address(pairs)["password"] == r"it's \ a = secret"
    assert mask_url(pairs) == "dbname=counts user=me …"


@pytest.mark.parametrize(
    "service", ["postgresql://?service=main", "service=main", "service='main'"]
)
def test_a_service_names_the_database(service: str) -> None:
    assert read_address(service) == {"service": "main"}
    assert make_engine_url(read_address(service)).query == {"service": "main"}


@pytest.mark.parametrize(
    ("address", "reason"),
    [
        ("host=db user=me", "names no database"),
        ("postgresql://a,b", "names no database"),
        ("postgresql:///?host=a", "names no database"),
        ("dbname=", "names no database"),
        ("dbname=a password=two words", "cannot be read as keyword=value pairs"),
        ("dbname=a password='open", "cannot be read as keyword=value pairs"),
        ("postgresql://a:1,b:x/counts", "cannot be read as a URL"),
        ("postgresql://a:1,b:70000/counts", "cannot be read as a URL"),
        ("postgresql://a:1,[::1/counts", "cannot be read as a URL"),
        ("postgresql://a:0,b/counts", "from 1 to 65535"),
        ("mysql://a/counts", "must begin with postgresql://"),
        ("postgresql://me:s3cret@a/counts?sslmod=require", "invalid URI query parameter: …"),
        ("dbname=a s3cret=b", "cannot be read|invalid connection option"),
    ],
)
def test_an_address_that_cannot_work_is_refused_with_the_reason(address: str, reason: str) -> None:
    with pytest.raises(ValueError, match=reason) as refused:
        read_address(address)
    assert "s3cret" not in str(refused.value)


@pytest.mark.parametrize(
    "address",
    [
        "postgresql://me:123,456",
        "postgresql://s3cret,more",
        "postgresql://me:pa?host=s3cret@db/counts",
        "postgresql://me:p@s3cret@db/counts",
        "host=db password=two s3cret",
        "host=db password=my s3cret=x",
        "password='s3cret",
        "host=db password=a\\ s3cret",
    ],
)
def test_what_may_be_a_part_of_a_password_is_not_shown(address: str) -> None:
    shown = mask_url(address)
    assert not any(part in shown for part in ("s3cret", "123", "456"))


def test_what_an_address_or_the_environment_says_comes_before_what_we_would_have(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    for name in ("PGCONNECT_TIMEOUT", "PGSERVICE"):
        monkeypatch.delenv(name, raising=False)
    ours = complete_parameters({"dbname": "a"})
    assert (ours["connect_timeout"], ours["tcp_user_timeout"]) == ("5", "15000")
    given = {"connect_timeout": "2", "tcp_user_timeout": "0", "application_name": "mine"}
    assert given.items() <= complete_parameters(given).items()
    assert "tcp_user_timeout" not in complete_parameters({"service": "main"})
    monkeypatch.setenv("PGCONNECT_TIMEOUT", "9")
    assert "connect_timeout" not in complete_parameters({"dbname": "a"})
