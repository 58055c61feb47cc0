"""Sending spans to a collector of OpenTelemetry's, over OTLP and HTTP, in a thread of its own.

All but the switch comes from OpenTelemetry's own variables (`OTEL_…`). The provider is not the
global one: libraries that record what they do (SQL, URLs) do not find it.
"""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from pipeline.backoff import Rarely
from pipeline.errors import InvalidConfiguration
from pipeline.traces.spans import trace_with

if TYPE_CHECKING:
    from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
    from opentelemetry.sdk.trace.sampling import Sampler

ENDS_WITHIN_S = 2.0
_TOLD_EVERY_S = 60.0
_LOGGERS = ("exporter.otlp.proto.http.trace_exporter", "sdk._shared_internal")

_end: Callable[[], None] | None = None


def begin(role: str) -> None:
    """Record and send the spans of this process, and of those that it forks; `role` names the
    service where no variable does. A repeat does nothing.

    Raises `InvalidConfiguration` where the extra is missing or a variable cannot be read.
    """
    global _end  # noqa: PLW0603 - of this process
    if _end is not None:
        return
    exporter = make_exporter()
    from opentelemetry.sdk.resources import SERVICE_NAME, OTELResourceDetector, Resource
    from opentelemetry.sdk.trace import TracerProvider
    from opentelemetry.sdk.trace.export import BatchSpanProcessor

    named = SERVICE_NAME in OTELResourceDetector().detect().attributes
    resource = Resource.create({} if named else {SERVICE_NAME: f"analytics-{role}"})
    try:
        processor = BatchSpanProcessor(exporter)
    except ValueError as error:
        raise InvalidConfiguration(f"OTEL_BSP_…: {error}; correct it") from error
    provider = TracerProvider(resource=resource, shutdown_on_exit=False)
    provider.sampler = follow_links(provider.sampler)
    provider.add_span_processor(processor)
    for name in _LOGGERS:
        logging.getLogger(f"opentelemetry.{name}").addFilter(_RarelyTold())
    trace_with(provider.get_tracer("analytics-pipeline"))
    _end = processor.shutdown


def make_exporter(**options: Any) -> OTLPSpanExporter:
    """What sends spans to where the variables say. Raises `InvalidConfiguration` where the extra is
    missing."""
    try:
        from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter

        return OTLPSpanExporter(**options)
    except ModuleNotFoundError as error:
        raise InvalidConfiguration(
            f"ANALYTICS_TRACES=1 needs {error.name}, which is not installed: "
            "pip install 'analytics-pipeline[otel]', or unset it"
        ) from error


def reach(exporter: OTLPSpanExporter) -> bool:
    """Whether a collector takes what an exporter sends; sends it no span, and logs nothing."""
    from opentelemetry.sdk.trace.export import SpanExportResult

    logging.getLogger("opentelemetry").setLevel(logging.CRITICAL)
    return exporter.export(()) is SpanExportResult.SUCCESS


def end() -> None:
    """Send what is left, for a moment at most: a collector that does not answer holds up no end."""
    if _end is not None:
        trace_with(None)
        ending = threading.Thread(target=_end, name="traces end", daemon=True)
        ending.start()
        ending.join(ENDS_WITHIN_S)


class _RarelyTold(logging.Filter):
    def __init__(self) -> None:
        super().__init__()
        self._rarely = Rarely(_TOLD_EVERY_S)

    def filter(self, record: logging.LogRecord) -> bool:
        return self._rarely.is_time()


def follow_links(chosen: Sampler) -> Sampler:
    """A sampler by which a span with links, all of which are recorded, is recorded too, where those
    below a recorded parent are: a batch has no parent."""
    from opentelemetry.sdk.trace.sampling import ALWAYS_ON, ParentBased, Sampler, SamplingResult

    class FollowLinks(Sampler):
        def should_sample(self, *args: Any, **kwargs: Any) -> SamplingResult:
            links = kwargs.get("links") or args[5:6]
            sampler = ALWAYS_ON if any(links) else chosen
            return sampler.should_sample(*args, **kwargs)

        def get_description(self) -> str:
            return f"FollowLinks{{{chosen.get_description()}}}"

    return FollowLinks() if isinstance(chosen, ParentBased) else chosen
