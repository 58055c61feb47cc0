"""ANALYTICS_REDIS_URL: which addresses are taken, and what is said of the others."""

from __future__ import annotations

import pytest

from config.settings import load
from pipeline.errors import InvalidConfiguration


@pytest.mark.parametrize(
    "url",
    [
        "redis://localhost",
        "redis://:secret@redis:6379/0",
        "rediss://user:secret@redis.example:6380/1?ssl_cert_reqs=none&ssl_ca_certs=/ca.pem",
        "redis://[::1]:6379/0",
        "sentinel://:secret@one:26379;sentinel://:secret@two:26379/0?master_name=main",
        "sentinel://[::1];sentinel://[2001:db8::7]:26380?master_name=main&sentinel_password=secret",
        "rediss://redis?ssl_check_hostname=false&ssl_ca_path=/etc/ssl&ssl_min_version=TLSv1.2",
        "sentinel://one?master_name=main&ssl=true&ssl_ca_certs=/ca.pem",
    ],
)
def test_a_redis_url_is_taken_as_it_is(monkeypatch: pytest.MonkeyPatch, url: str) -> None:
    monkeypatch.setenv("ANALYTICS_REDIS_URL", url)
    settings = load()
    assert settings.redis_url is not None
    assert settings.redis_url.get_secret_value() == url


@pytest.mark.parametrize(
    ("url", "shown", "reason"),
    [
        ("localhost:6379", "localhost:6379", "must begin with redis://, rediss://, sentinel://"),
        ("http://redis:6379", "http://redis:6379", "must begin with redis://"),
        ("redis:redis", "…", "must begin with redis://"),
        ("redis://", "redis://", "names no host"),
        ("redis://:6379/0", "redis://:6379/0", "names no host"),
        ("redis://redis:0/0", "redis://redis:0/0", "the port must be from 1 to 65535"),
        ("redis://redis:65536", "redis://redis:65536", "cannot be read as a URL"),
        ("redis://redis/zero", "redis://redis/zero", "must be a database number"),
        # Without the rule the host would be "pass" here, and the rest a fragment.
        ("redis://pass#word@redis/0", "redis://:***@redis/0", "in a password write %23"),
        ("redis://redis/0?db=3", "redis://redis/0?…", "the parameter 'db' is not supported"),
        ("rediss://redis?ssl_cert_reqs=maybe", "rediss://redis?…", "ssl_cert_reqs must be one of"),
        ("rediss://redis?ssl_check_hostname=2", "rediss://redis?…", "must be true or false"),
        ("rediss://redis?ssl_min_version=1", "rediss://redis?…", "one of: TLSv1.2, TLSv1.3"),
        ("sentinel://one:26379/0", "sentinel://one:26379/0", "must end with ?master_name=NAME"),
        (
            "sentinel://one/0?master_name=main&ssl_ca_certs=/ca.pem",
            "sentinel://one/0?…",
            "ssl_ca_certs need ssl=true",
        ),
        (
            "sentinel://:a@one;sentinel://:b@two/0?master_name=main",
            "sentinel://:***@one;sentinel://:***@two/0?…",
            "those of the Sentinels go into sentinel_username and sentinel_password",
        ),
        (
            "redis://one:6379;redis://two:6379",
            "redis://one:6379;redis://two:6379",
            "only sentinel:// addresses can be joined",
        ),
        (
            "sentinel://one/1;sentinel://two/0?master_name=main",
            "sentinel://one/1;sentinel://two/0?…",
            "put the database number after the last address only",
        ),
    ],
)
def test_a_redis_url_that_cannot_work_is_refused_with_the_reason(
    monkeypatch: pytest.MonkeyPatch, url: str, shown: str, reason: str
) -> None:
    monkeypatch.setenv("ANALYTICS_REDIS_URL", url)
    with pytest.raises(InvalidConfiguration) as caught:
        load()
    said = str(caught.value)
    assert said.startswith(f"ANALYTICS_REDIS_URL={shown}: ")
    assert reason in said
