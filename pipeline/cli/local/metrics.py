"""The metrics of `analytics up`, at one port: what happens in its processes, and the state of the
pipeline."""

from __future__ import annotations

import logging
from collections.abc import Callable
from contextlib import ExitStack
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from config.settings import Settings


def serve_metrics(settings: Settings, report: Callable[[str], None]) -> Callable[[], None] | None:
    """Serve them on ANALYTICS_METRICS_PORT, before any process of this machine does; returns what
    ends that. None without a port, and where they cannot be served, which `report` is told. The
    servers have to run."""
    if not settings.metrics_port:
        return None
    from pipeline.cli.context import open_services
    from pipeline.metrics.processes import serve_with
    from pipeline.metrics.reading import StateReader
    from pipeline.metrics.state import StateCollector

    # That a server is away is in the metrics, and is reported where processes are kept running.
    logging.getLogger("pipeline.metrics.reading").setLevel(logging.ERROR)
    with ExitStack() as stack:
        services = stack.enter_context(open_services(unchecked=True))
        collector = StateCollector(StateReader(services).read)
        try:
            stack.callback(serve_with(collector, settings.metrics_address, settings.metrics_port))
        except OSError as error:
            report(f"metrics: the directory for temporary files cannot be used ({error})")
            return None
        return stack.pop_all().close
