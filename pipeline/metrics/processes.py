"""What the processes of a machine measure, served by one of them for all.

`begin` is called once in each. A child that is forked begins anew by itself, and shares neither the
numbers nor the port of its parent.
"""

from __future__ import annotations

import atexit
import logging
import os
import tempfile
import threading
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path

from prometheus_client import CollectorRegistry, start_http_server
from prometheus_client.core import CounterMetricFamily, HistogramMetricFamily, Metric
from prometheus_client.registry import Collector
from prometheus_client.utils import floatToGoString

from pipeline.measures import MEASURES, Measure, measure_with
from pipeline.metrics.directory import Entry, Found, MetricsDirectory
from pipeline.metrics.state import EACH, PREFIX, StateMetric, make_families
from pipeline.metrics.tally import Tally
from pipeline.system.file_locks import FileLock
from pipeline.system.forks import at_fork

_WRITTEN_AFTER_S = 0.5
_TRY_AGAIN_S = 2.0

PROCESS_METRICS = (
    StateMetric(
        "processes",
        "processes of this machine that are measured, by role: `events`, `flush`, `web`",
        ("processes", EACH),
        "role",
    ),
    StateMetric(
        "process_resident_memory_bytes",
        "resident memory of these processes, in all, by role; on Linux",
        ("memory_bytes", EACH),
        "role",
    ),
)

logger = logging.getLogger(__name__)


class ProcessMeasures:
    """The measures of this process, written to the directory after each change."""

    def __init__(self, directory: MetricsDirectory, role: str) -> None:
        """Enter the directory. Raises OSError."""
        self._directory, self._role = directory, role
        self._changed = threading.Event()
        self._thread: threading.Thread | None = None
        self.tally = Tally(self._note_change)
        self._entry: Entry | None = directory.enter(role)
        self.write()
        at_fork(after_in_child=self._forget)

    def start(self) -> None:
        """Write changes from now on, in a thread; a repeat does nothing."""
        if self._thread is None:
            self._thread = threading.Thread(target=self._run, name="measures", daemon=True)
            self._thread.start()

    def write(self) -> None:
        """Write the numbers now. What cannot be written is tried again with the next change."""
        try:
            if self._entry is None:
                self._entry = self._directory.enter(self._role)
            self._entry.write(self.tally.copy())
        except OSError as error:
            logger.debug("metrics cannot be written: %s", error)

    def _note_change(self) -> None:
        self._changed.set()
        self.start()

    def _run(self) -> None:
        while True:
            self._changed.wait()
            threading.Event().wait(_WRITTEN_AFTER_S)
            self._changed.clear()
            self.write()

    def _forget(self) -> None:
        """Be another process, with another place."""
        self._thread, self._entry = None, None
        self._changed = threading.Event()
        self.tally.forget()


class ProcessCollector(Collector):
    """What the processes of a directory have measured."""

    def __init__(self, directory: MetricsDirectory, own: ProcessMeasures | None = None) -> None:
        """`own` are those of this process, which are written before each scrape."""
        self._directory, self._own = directory, own
        self._lock = threading.Lock()

    def collect(self) -> Iterable[Metric]:
        """What a scrape is answered."""
        with self._lock:
            if self._own is not None:
                self._own.write()
            found = self._directory.read()
        yield from make_process_families(found)


def make_process_families(found: Found) -> Iterable[Metric]:
    """The families of all measures of which there are numbers, and of the processes."""
    for measure in MEASURES:
        labels = list(measure.labels)
        rows = [(key[1], row) for key, row in found.rows.items() if key[0] == measure.name]
        if measure.buckets:
            yield _make_histogram(measure, labels, rows)
            continue
        family = CounterMetricFamily(PREFIX + measure.name, measure.meaning, labels=labels)
        for values, row in rows:
            family.add_metric(values, row[-1])
        yield family
    state = {"processes": found.processes, "memory_bytes": found.memory_bytes}
    yield from make_families(PROCESS_METRICS, state)


def _make_histogram(
    measure: Measure, labels: list[str], rows: Sequence[tuple[Sequence[str], list[float]]]
) -> Metric:
    family = HistogramMetricFamily(PREFIX + measure.name, measure.meaning, labels=labels)
    bounds = [*map(floatToGoString, measure.buckets), "+Inf"]
    for values, (*counts, total) in rows:
        if len(counts) == len(bounds):  # else of another version
            sums = [sum(counts[: position + 1]) for position in range(len(counts))]
            family.add_metric(values, list(zip(bounds, sums, strict=True)), total)
    return family


_own: ProcessMeasures | None = None


def find_directory(port: int) -> Path:
    """Where the processes that share this port leave their numbers."""
    return Path(tempfile.gettempdir()) / f"analytics-metrics-{os.geteuid()}-{port}"


def begin(role: str, address: str, port: int) -> None:
    """Measure this process, and serve what the processes of this machine measure at this address,
    unless another does. Port 0: do nothing.

    Never fails: where the numbers cannot be kept or the port cannot be had, that is logged.
    """
    global _own  # noqa: PLW0603 - of this process
    if not port or _own is not None:
        return
    try:
        directory = MetricsDirectory(find_directory(port))
        _own = ProcessMeasures(directory, role)
    except OSError as error:
        logger.warning("nothing is measured, %s cannot be used: %s", find_directory(port), error)
        return
    measure_with(_own.tally.keep)
    _own.start()
    atexit.register(_own.write)
    registry = CollectorRegistry(auto_describe=False)
    registry.register(ProcessCollector(directory, _own))
    _begin_serving(directory, registry, (address, port))


def serve_with(collector: Collector, address: str, port: int) -> Callable[[], None]:
    """Serve what the processes of this machine measure, and what `collector` says, at this address
    unless another does; returns what ends that. This process is not measured.

    Raises OSError where the directory for the numbers cannot be used.
    """
    directory = MetricsDirectory(find_directory(port))
    registry = CollectorRegistry(auto_describe=False)
    registry.register(ProcessCollector(directory))
    registry.register(collector)
    return _begin_serving(directory, registry, (address, port))


def begin_child() -> None:
    """Be seen in a child that was forked, before it measures anything."""
    if _own is not None:
        _own.start()
        _own.write()


def end_child() -> None:
    """Write the last numbers of a child that ends."""
    if _own is not None:
        _own.write()


def _begin_serving(
    directory: MetricsDirectory, registry: CollectorRegistry, place: tuple[str, int]
) -> Callable[[], None]:
    """Serve in a thread; returns what ends it."""
    is_over = threading.Event()
    arguments = (directory, registry, place, is_over)
    thread = threading.Thread(target=_serve, args=arguments, name="metrics port", daemon=True)
    thread.start()

    def end() -> None:
        is_over.set()
        thread.join()

    return end


def _serve(
    directory: MetricsDirectory,
    registry: CollectorRegistry,
    place: tuple[str, int],
    is_over: threading.Event,
) -> None:
    """Have the port as soon as no other process has it, and serve until it is over, or until this
    process ends."""
    is_said = False
    address, port = place
    while True:
        lock = None
        try:
            lock = FileLock.try_acquire(directory.path / "server")
            if lock is not None:
                server, _ = start_http_server(port, address, registry)
                break
        except OSError as error:
            if not is_said:
                is_said = True
                logger.warning(
                    "no metrics at %s, port %d (%s): give a free ANALYTICS_METRICS_PORT, or the "
                    "same directory for temporary files to all that share it",
                    *(address, port, error.strerror),
                )
            if lock is not None:
                lock.close()
        if is_over.wait(_TRY_AGAIN_S):
            return
    at_fork(after_in_child=server.server_close)
    logger.info("metrics of this machine's processes at %s, port %d", address, port)
    is_over.wait()
    server.shutdown()
    server.server_close()
    lock.close()
