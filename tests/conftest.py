"""Real servers for all tests: a private Redis and a private Postgres, started once a run.

Every test that asks for `redis_url` begins with an empty Redis, and every test that asks for
`postgres_url` with its own copy of a migrated database. `ANALYTICS_TEST_REDIS_BINARY` (a
redis-server) and `ANALYTICS_TEST_POSTGRES_BIN` (a directory with initdb and postgres) choose other
servers than the embedded ones.
"""

from __future__ import annotations

import logging
import os
import signal
import subprocess
import threading
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import hypothesis
import pytest
import redis

from config.options import pipeline_options
from config.settings import Settings
from pipeline.cli import main
from pipeline.embedded import PrivateServers
from pipeline.embedded.postgres import find_installation
from pipeline.embedded.redis import find_binary
from pipeline.errors import EmbeddedServerFailed
from pipeline.flushing.claims import Claims
from pipeline.options import MAX_LOG_PARTITIONS
from pipeline.producer.app import configure
from pipeline.producer.settings import ProducerSettings
from pipeline.redis.keys import Keys
from pipeline.services import Services, connect
from tests.helpers.postgres.databases import Databases, copy_data_dir
from tests.helpers.support import Workers, check_celery_app_is_unused

_HERE = Path(__file__).parent
_SHORT = ("path", "unit")
_LOG_TAIL_CHARACTERS = 8_000
_WORKERS = pytest.StashKey[Workers]()

MakeServices = Callable[..., Services]

# No time limit for an example: on a busy machine it would fail for nothing.
hypothesis.settings.register_profile("tests", deadline=None, print_blob=True)
hypothesis.settings.load_profile("tests")

# A shell that runs us in the background has us ignore Ctrl-C, and so would the processes that tests
# start and stop by it.
if threading.current_thread() is threading.main_thread():
    signal.signal(signal.SIGINT, signal.default_int_handler)


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Where processes share the files, those of the longest tests come first and those of the
    shortest last, so that all end together: xdist would begin with the files of most tests."""
    if hasattr(config, "workerinput"):
        items.sort(key=lambda item: item.path.relative_to(_HERE).parts[0] in _SHORT)


@pytest.fixture(scope="session", autouse=True)
def _no_settings_from_outside() -> Iterator[None]:
    """The settings of whoever runs the tests are none of the tests' business."""
    with pytest.MonkeyPatch.context() as patch:
        for name in list(os.environ):
            if name.startswith("ANALYTICS_") and not name.startswith("ANALYTICS_TEST_"):
                patch.delenv(name)
        yield


def chosen_programs() -> dict[str, Path | None]:
    """The programs that the environment names, as `PrivateServers.start` takes them."""
    redis_binary = os.environ.get("ANALYTICS_TEST_REDIS_BINARY")
    postgres_bin = os.environ.get("ANALYTICS_TEST_POSTGRES_BIN")
    return {
        "redis_binary": Path(redis_binary) if redis_binary else None,
        "postgres_bin_dir": Path(postgres_bin) if postgres_bin else None,
    }


def describe_servers() -> str:
    """The name and version of each server that tests run on. Raises EmbeddedServerFailed."""
    programs = chosen_programs()
    postgres = find_installation(programs["postgres_bin_dir"], Path("/nonexistent"))
    binaries = (find_binary(programs["redis_binary"]), postgres.binary("postgres"))
    versions = [
        subprocess.run([binary, "--version"], capture_output=True, text=True, check=True).stdout
        for binary in binaries
    ]
    return "servers: " + ", ".join(version.split("sha=")[0].strip() for version in versions)


def pytest_report_header() -> str:
    """Which servers these tests run on."""
    try:
        return describe_servers()
    except EmbeddedServerFailed as error:
        raise pytest.UsageError(str(error)) from error


@pytest.fixture(scope="session")
def servers(tmp_path_factory: pytest.TempPathFactory) -> Iterator[PrivateServers]:
    """The servers of this run. A test that stops or kills one starts its own: `own_servers`."""
    with PrivateServers.start(tmp_path_factory.mktemp("servers"), **chosen_programs()) as running:
        yield running


@pytest.fixture(scope="session")
def new_cluster(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A data directory with a Postgres that has been made, for a second and more, and runs not."""
    directory = tmp_path_factory.mktemp("new")
    PrivateServers.start(directory, redis=False, **chosen_programs()).stop()
    return directory


@pytest.fixture
def own_servers(tmp_path: Path, new_cluster: Path) -> Iterator[PrivateServers]:
    """Servers, not yet migrated, for one test alone to stop, kill and change."""
    copy_data_dir(new_cluster, tmp_path / "servers")
    with PrivateServers.start(tmp_path / "servers", **chosen_programs()) as running:
        yield running


@pytest.fixture
def redis_url(servers: PrivateServers) -> Iterator[str]:
    """A Redis database that is empty at first. What a test leaves in it must have a lifetime, or be
    on the permanent list."""
    assert servers.redis_url is not None
    with redis.Redis.from_url(servers.redis_url) as client:
        client.flushdb()
        yield servers.redis_url
        # What else a test has chosen, such as a prefix, is not what the next one sends by.
        configure(ProducerSettings(redis_url=servers.redis_url))
        leftovers = keys_that_stay(client, Keys())
        client.flushdb()
    assert not leftovers, f"these keys would stay in Redis for ever: {leftovers}"


def keys_that_stay(client: redis.Redis, keys: Keys) -> list[str]:
    """Keys that nothing will ever remove: without a lifetime, and not on the permanent list."""
    permanent = {
        keys.pending_flush,
        keys.batches,
        keys.totals,
        keys.access,
        keys.forgotten,
        keys.dead,
        # The event log is a stream for each partition, empty when all is archived.
        *(keys.events(partition) for partition in range(MAX_LOG_PARTITIONS)),
        keys.events_sizes,
        keys.requests,
        keys.unacked,
        keys.unacked_index,
        keys.delayed,
        keys.jobs_unacked,
        f"{keys.jobs_unacked}_index",
        *keys.live_buckets,
        # A queue goes with its last message; kombu's bindings are a handful, one a queue.
        "analytics.events",
        "analytics.flush",
        "analytics.maintenance",
    }
    permanent |= {name.decode() for name in client.smembers(keys.pending_flush)}
    for batch_id in Claims(client, keys).open_batches():
        permanent |= {keys.inflight + batch_id, *keys.journal_buckets(batch_id)}
    names = list(client.scan_iter(count=1_000))
    lifetimes = client.pipeline(transaction=False)
    for name in names:
        lifetimes.ttl(name)
    return sorted(
        name.decode(errors="replace")
        for name, lifetime_s in zip(names, lifetimes.execute(), strict=True)
        if lifetime_s == -1
        and name.decode(errors="replace") not in permanent
        and not name.startswith(b"_kombu.binding")
    )


@pytest.fixture(scope="session")
def databases(servers: PrivateServers) -> Iterator[Databases]:
    """Databases on the server of this run."""
    assert servers.postgres_url is not None
    with closing(Databases(servers.postgres_url)) as databases:
        databases.hurry()
        yield databases


@pytest.fixture(scope="session")
def postgres_template(databases: Databases) -> Databases:
    """The same, with a migrated database to copy."""
    databases.make_template()
    return databases


@pytest.fixture
def postgres_url(postgres_template: Databases) -> Iterator[str]:
    """A migrated database of the test's own."""
    with postgres_template.copied() as url:
        yield url


@pytest.fixture
def empty_postgres_url(databases: Databases) -> Iterator[str]:
    """A database in which nothing has been set up."""
    with databases.empty() as url:
        yield url


@pytest.fixture
def make_services(redis_url: str, postgres_url: str) -> Iterator[MakeServices]:
    """Makes services on the test's servers: `make_services(count_by={"page_view": ["path"]})`."""
    made: list[Services] = []

    def make(**settings: object) -> Services:
        made.append(connect(pipeline_options(Settings(**settings)), redis_url, postgres_url))
        return made[-1]

    yield make
    for services in made:
        services.close()


@pytest.fixture
def services(make_services: MakeServices) -> Services:
    """Services with the default settings, and one counted property: `path` of page_view."""
    return make_services(count_by={"page_view": ["path"]})


@pytest.fixture
def sending(redis_url: str) -> None:
    """This process's producer sends to the test's Redis, and counts there what it counts itself."""
    configure(ProducerSettings(redis_url=redis_url, publish_timeout_s=5))


@pytest.fixture
def unreachable(sending: None) -> None:
    """This process's producer sends to a port where nobody listens."""
    configure(redis_url="redis://127.0.0.1:1/0", publish_timeout_s=0.1)


@pytest.fixture
def client(redis_url: str) -> Iterator[redis.Redis]:
    """A client of the test's Redis."""
    with redis.Redis.from_url(redis_url) as client:
        yield client


@pytest.fixture
def workers(
    request: pytest.FixtureRequest, tmp_path: Path, redis_url: str, postgres_url: str
) -> Iterator[Workers]:
    """Starts worker processes on the test's servers; ends them; shows their logs when it fails."""
    environment = {
        "ANALYTICS_REDIS_URL": redis_url,
        "ANALYTICS_POSTGRES_URL": postgres_url,
        "ANALYTICS_DATA_DIR": str(tmp_path / "none"),
    }
    running = Workers(environment, tmp_path)
    request.node.stash[_WORKERS] = running
    yield running
    running.kill()


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item: pytest.Item) -> Iterator[None]:
    report = yield
    running = item.stash.get(_WORKERS, None)
    if report.failed and running is not None:
        for worker in running.started:
            title = f"log of {worker.name}, all of it in {worker.log}"
            report.sections.append((title, worker.said()[-_LOG_TAIL_CHARACTERS:]))
    return report


@pytest.fixture
def analytics(
    redis_url: str, postgres_url: str, monkeypatch: pytest.MonkeyPatch, capfd: Any
) -> Iterator[Any]:
    """Runs the command in this process; returns its exit code and what it printed.

    What a command configures is of the whole process, and is undone at the end: the producer, and a
    log that goes to this test's standard error.
    """
    log_level = logging.getLogger().level
    monkeypatch.setenv("ANALYTICS_REDIS_URL", redis_url)
    monkeypatch.setenv("ANALYTICS_POSTGRES_URL", postgres_url)

    def run(*arguments: str) -> tuple[int, str, str]:
        with pytest.raises(SystemExit) as ended:
            main(arguments)
        said = capfd.readouterr()
        check_celery_app_is_unused()
        return int(ended.value.code or 0), said.out, said.err

    yield run
    configure(ProducerSettings())
    logging.captureWarnings(False)
    logging.getLogger().setLevel(log_level)
    for handler in [
        one for one in logging.getLogger().handlers if type(one) is logging.StreamHandler
    ]:
        logging.getLogger().removeHandler(handler)
