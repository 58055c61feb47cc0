"""A dashboard of its own: servers, workers, the web process, and the same events each time."""

from __future__ import annotations

import json
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

from config.options import pipeline_options
from config.settings import Settings
from pipeline.access.key_store import AccessKeyStore
from pipeline.embedded import PrivateServers
from pipeline.postgres import schema
from pipeline.postgres.engine import postgres_engine
from pipeline.services import Services, connect
from tests.conftest import chosen_programs
from tests.dashboard.events import COUNT_BY, SUM, make_latest, make_weeks
from tests.dashboard.past import write_past
from tests.helpers.support import Workers, count_events
from tests.helpers.web_process import WebProcess

_BATCH = 500


@dataclass(frozen=True)
class DashboardStage:
    """Where it is served, to whom, and what it shows. `token` has every right."""

    web: WebProcess
    token: str
    services: Services
    workers: Workers


@contextmanager
def dashboard_stage() -> Iterator[DashboardStage]:
    """Start everything on free ports of 127.0.0.1, with workers; all of it ends and is removed
    afterwards."""
    with tempfile.TemporaryDirectory(prefix="dashboard-") as name:
        directory = Path(name)
        directory.chmod(0o711)  # Postgres may run as another user
        with PrivateServers.start(directory / "servers", **chosen_programs()) as servers:
            assert servers.redis_url is not None
            assert servers.postgres_url is not None
            environment = {
                "ANALYTICS_REDIS_URL": servers.redis_url,
                "ANALYTICS_POSTGRES_URL": servers.postgres_url,
                "ANALYTICS_DATA_DIR": str(directory / "none"),
                "ANALYTICS_COUNT_BY": json.dumps(COUNT_BY),
                "ANALYTICS_SUM": json.dumps(SUM),
            }
            schema.migrate(postgres_engine(servers.postgres_url))
            options = pipeline_options(Settings(count_by=COUNT_BY, sum=SUM))
            services = connect(options, servers.redis_url, servers.postgres_url)
            workers = Workers(environment, directory)
            try:
                _count(services)
                workers.start("events")
                workers.start("flush")
                access = AccessKeyStore(services.redis, services.keys)
                rights = {"may_operate": True, "may_edit": True, "may_forget": True}
                _, token = access.create("read", "stage", **rights)
                yield DashboardStage(WebProcess(workers).start(), token, services, workers)
            finally:
                workers.kill()
                services.close()


def _count(services: Services) -> None:
    now = datetime.now(UTC)
    events = make_weeks(now)
    for begin in range(0, len(events), _BATCH):
        count_events(services, *events[begin : begin + _BATCH])
    services.flush()
    services.archive_events()
    count_events(services, *make_latest(now))
    write_past(services)
