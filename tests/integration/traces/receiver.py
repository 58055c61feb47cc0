"""A collector of OpenTelemetry's: takes spans over OTLP and HTTP, and keeps them."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest


@dataclass(frozen=True)
class Span:
    """A span as it was received; ids in hexadecimal digits, "" for none."""

    service: str
    name: str
    trace_id: str
    span_id: str
    parent_id: str
    kind: str
    is_error: bool
    attributes: dict[str, Any]
    links: tuple[tuple[str, str], ...]
    """Trace and span of each."""


class Receiver:
    """What was received so far."""

    def __init__(self, port: int) -> None:
        self.endpoint = f"http://127.0.0.1:{port}"
        self.raw = b""
        """All requests, one after the other."""
        self.spans: list[Span] = []

    def named(self, name: str) -> list[Span]:
        """The spans of this name."""
        return [one for one in self.spans if one.name == name]

    def take(self, body: bytes) -> None:
        """Keep the spans of a request."""
        self.raw += body
        for of_resource in ExportTraceServiceRequest.FromString(body).resource_spans:
            resource = {one.key: one.value.string_value for one in of_resource.resource.attributes}
            for of_scope in of_resource.scope_spans:
                self.spans += [_read(resource["service.name"], one) for one in of_scope.spans]


def _read(service: str, span: Any) -> Span:
    values = {one.key: (one.value.WhichOneof("value"), one.value) for one in span.attributes}
    return Span(
        service,
        span.name,
        span.trace_id.hex(),
        span.span_id.hex(),
        span.parent_span_id.hex(),
        span.SpanKind.Name(span.kind).removeprefix("SPAN_KIND_"),
        span.status.code == span.status.STATUS_CODE_ERROR,
        {key: getattr(value, kind) for key, (kind, value) in values.items()},
        tuple((one.trace_id.hex(), one.span_id.hex()) for one in span.links),
    )


@contextmanager
def receiving() -> Iterator[Receiver]:
    """A receiver on a free port of 127.0.0.1, until the block ends."""

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            assert self.path == "/v1/traces"
            receiver.take(self.rfile.read(int(self.headers["Content-Length"])))
            self.send_response(200)
            self.send_header("Content-Length", "0")
            self.end_headers()

        def log_message(self, *_: object) -> None:
            """Say nothing."""

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        receiver = Receiver(server.server_port)
        thread = threading.Thread(target=server.serve_forever, args=(0.05,))
        thread.start()
        try:
            yield receiver
        finally:
            server.shutdown()
            thread.join()
