"""Redis over TLS: all of ours on `rediss://`, and nobody talks to a server that cannot prove who it
is."""

from __future__ import annotations

import os
import re
import secrets
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest
import redis
from kombu import Connection
from kombu.exceptions import OperationalError

from config.celery import celery_config
from config.settings import Settings
from pipeline.embedded.redis import find_binary
from pipeline.producer.app import configure
from pipeline.producer.celery_tasks import track_event
from pipeline.redis.client import redis_client
from pipeline.services import Services
from tests.conftest import chosen_programs
from tests.helpers.redis_nodes import KEEPS_EVERYTHING, Node, has_ipv6
from tests.helpers.support import QUEUE, Worker, Workers, eventually, rows

PASSWORD = secrets.token_hex(8)


def without(reason: str) -> None:
    """What the tests need is not there: skips, and fails where CI is set."""
    (pytest.fail if os.environ.get("CI") else pytest.skip)(reason)


def server_with_tls() -> Path:
    """The server that the suite is pointed at, else one that is installed. The embedded one has no
    TLS."""
    installed = [shutil.which(name) for name in ("redis-server", "valkey-server")]
    chosen = find_binary(chosen_programs()["redis_binary"])
    for binary in [chosen, *(Path(found) for found in installed if found)]:
        command = [binary, "--port", "0", "--tls-port", "1"]  # misses its certificate, if it can
        output = subprocess.run(command, capture_output=True, text=True, timeout=20, check=False)
        if "tls-cert-file" in output.stdout:
            return binary
    without("no Redis server with TLS (on Debian: apt-get install redis-server)")
    raise AssertionError


@pytest.fixture(scope="module")
def certificate(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A certificate of 127.0.0.1 and ::1 that signs itself; its key is beside it."""
    if shutil.which("openssl") is None:
        without("no openssl to make a certificate with (on Debian: apt-get install openssl)")
    path = tmp_path_factory.mktemp("tls") / "certificate.pem"
    command = (
        f"openssl req -x509 -newkey rsa:2048 -nodes -days 1 -subj /CN=tests -out {path} "
        f"-keyout {path.with_suffix('.key')} -addext subjectAltName=IP:127.0.0.1,IP:::1"
    )
    subprocess.run(command.split(), capture_output=True, check=True, timeout=60)
    return path


def tls_of(certificate: Path) -> dict[str, str]:
    """Lines of a server's configuration."""
    return {
        "port": "0",
        "tls-port": "{port}",
        "tls-cert-file": f"{certificate}",
        "tls-key-file": f"{certificate.with_suffix('.key')}",
        "tls-ca-cert-file": f"{certificate}",
        "tls-auth-clients": "no",
        "tls-replication": "yes",
        "bind": "127.0.0.1 -::1",
    }


@pytest.fixture(scope="module")
def node(certificate: Path) -> Iterator[Node]:
    lines = {**KEEPS_EVERYTHING, **tls_of(certificate), "requirepass": PASSWORD}
    running = Node(server_with_tls(), certificate.parent / "redis", lines)
    try:
        running.start()
        yield running
    finally:
        running.kill()


@pytest.fixture
def unverified_url(node: Node) -> str:
    """The address alone: our certificate is not among those that the system trusts."""
    return f"rediss://:{PASSWORD}@127.0.0.1:{node.port}/0"


@pytest.fixture
def redis_url(unverified_url: str, certificate: Path) -> str:
    return f"{unverified_url}?ssl_ca_certs={certificate}"


def counted(services: Services) -> int:
    return int(services.redis.hget(services.keys.totals, "counted") or 0)


def is_answered(workers: Workers, worker: Worker) -> bool:
    """Whether it hears control commands: not before it has subscribed to them."""
    ping = workers.celery("ping", "inspect", "ping", "-d", f"{worker.name}@tests", "-t", "5")
    return ping.wait(30) == 0


def test_events_are_counted_once_over_tls_through_a_restart_of_redis(
    node: Node, sending: None, services: Services, workers: Workers
) -> None:
    configure(publish_timeout_s=30)
    worker = workers.start("events")
    for number in range(100):
        track_event.delay("page_view", f"u{number}")
    eventually(lambda: counted(services) == 100)

    node.kill()
    node.start()
    for number in range(100, 200):
        track_event.delay("page_view", f"u{number}")
    services.redis.connection_pool.disconnect()
    eventually(lambda: counted(services) == 200)

    services.flush()
    stored = {user: count for _, _, user, count in rows(services, "analytics_user_daily")}
    assert stored == {f"u{number}": 1 for number in range(200)}
    assert services.status()["books"]["balanced"]
    # Counting goes on at once, and Celery makes its connection anew meanwhile.
    eventually(lambda: worker.said().count("Connected to rediss://") > 1)
    eventually(lambda: is_answered(workers, worker), what="the worker answers a ping")


def test_no_client_talks_to_a_server_whose_certificate_nobody_vouches_for(
    unverified_url: str, workers: Workers
) -> None:
    configure(redis_url=unverified_url, publish_timeout_s=0.1)
    with pytest.raises(OperationalError, match="CERTIFICATE_VERIFY_FAILED"):
        track_event.delay("page_view")

    options = celery_config(Settings(), unverified_url)
    with (
        Connection(options["broker_url"], ssl=options["broker_use_ssl"]) as broker,
        pytest.raises(redis.ConnectionError, match="CERTIFICATE_VERIFY_FAILED"),
    ):
        broker.channel()

    worker = workers.celery("worker", "worker", "-Q", "analytics.events", REDIS_URL=unverified_url)
    assert worker.wait(30) != 0
    assert re.search(r"^analytics: .*CERTIFICATE_VERIFY_FAILED", worker.said(), re.MULTILINE)
    assert "Traceback" not in worker.said()


def test_a_certificate_of_another_host_is_refused_unless_the_url_allows_it(
    node: Node, certificate: Path
) -> None:
    # Of another database, since kombu keeps its connections by the address without these options.
    url = f"rediss://:{PASSWORD}@localhost:{node.port}"
    strict = f"{url}/0?ssl_ca_certs={certificate}"
    lax = f"{url}/1?ssl_ca_certs={certificate}&ssl_check_hostname=false&ssl_min_version=TLSv1.2"
    with redis_client(strict) as client, pytest.raises(redis.ConnectionError, match="localhost"):
        client.ping()
    configure(redis_url=strict, publish_timeout_s=0.1)
    for options in ({}, {"expires": 60}):  # by our script, and by Celery
        with pytest.raises(OperationalError, match="localhost"):
            track_event.apply_async(("page_view",), retry=False, **options)

    configure(redis_url=lax, publish_timeout_s=5)
    with redis_client(lax) as client:
        client.flushdb()
        for options in ({}, {"expires": 60}):
            track_event.apply_async(("page_view",), **options)
        assert client.llen(QUEUE) == 2
        client.flushdb()


@pytest.fixture
def sentinel(node: Node, certificate: Path, tmp_path: Path) -> Iterator[Node]:
    lines = {
        **tls_of(certificate),
        "sentinel monitor main": f"127.0.0.1 {node.port} 1",
        "sentinel auth-pass main": PASSWORD,
    }
    running = Node(server_with_tls(), tmp_path / "sentinel", lines, "--sentinel")
    try:
        running.start()
        yield running
    finally:
        running.kill()


def test_sentinels_are_asked_over_tls_too(
    sentinel: Node, certificate: Path, services: Services, workers: Workers
) -> None:
    url = f"sentinel://:{PASSWORD}@127.0.0.1:{sentinel.port}/0?master_name=main&ssl=true"
    configure(redis_url=url, publish_timeout_s=0.1)
    with pytest.raises(OperationalError, match="No master found"):  # for want of ssl_ca_certs
        track_event.delay("page_view", "u0")

    url = f"{url}&ssl_ca_certs={certificate}"
    configure(redis_url=url, publish_timeout_s=5)
    services.redis.flushdb()
    track_event.delay("page_view", "u1")
    track_event.apply_async(("page_view", "u1"), expires=60)
    worker = workers.start("events", REDIS_URL=url)
    eventually(lambda: counted(services) == 2)
    ping = ("inspect", "ping", "-d", f"{worker.name}@tests", "-t", "20")
    asked = workers.celery("ping", *ping, REDIS_URL=url)
    assert asked.wait(30) == 0, asked.said()


def test_a_server_is_found_by_its_ipv6_address(node: Node, certificate: Path) -> None:
    if not has_ipv6():
        pytest.skip("this machine has no IPv6")
    url = f"rediss://:{PASSWORD}@[::1]:{node.port}/2?ssl_ca_certs={certificate}"
    configure(redis_url=url, publish_timeout_s=5)
    track_event.delay("page_view")
    track_event.apply_async(("page_view",), expires=60)
    with redis_client(url) as client:
        assert client.llen(QUEUE) == 2
        client.flushdb()
    options = celery_config(Settings(), url)
    with Connection(options["broker_url"], ssl=options["broker_use_ssl"]) as broker:
        assert broker.channel().client.ping()
