"""A collector of traces, as programs know them: OTLP over gRPC, on loopback."""

from __future__ import annotations

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, field
from threading import Lock

import grpc
from opentelemetry.proto.collector.trace.v1 import trace_service_pb2, trace_service_pb2_grpc
from programs import free_address


@dataclass(frozen=True)
class Span:
    """A span, as far as tests look at it."""

    program: str
    name: str
    trace: str
    id: str
    parent: str
    failed: bool
    attributes: dict[str, str] = field(hash=False)


class Collector(trace_service_pb2_grpc.TraceServiceServicer):
    """Keeps every span it is sent."""

    def __init__(self, address: str) -> None:
        """`address` is where it listens."""
        self.endpoint = f"http://{address}"
        self.raw = b""
        self._spans: list[Span] = []
        self._lock = Lock()

    def Export(self, request, context):  # noqa: N802, as the service calls it
        """Takes spans."""
        spans = [
            Span(
                program=next(a.value.string_value for a in of.resource.attributes if a.key == "service.name"),
                name=span.name,
                trace=span.trace_id.hex(),
                id=span.span_id.hex(),
                parent=span.parent_span_id.hex(),
                failed=span.status.code == 2,
                attributes={a.key: a.value.string_value for a in span.attributes},
            )
            for of in request.resource_spans
            for scope in of.scope_spans
            for span in scope.spans
        ]
        with self._lock:
            self._spans += spans
            self.raw += request.SerializeToString()
        return trace_service_pb2.ExportTraceServiceResponse()

    def named(self, start: str) -> list[Span]:
        """The spans whose names begin so."""
        with self._lock:
            return [span for span in self._spans if span.name.startswith(start)]

    def of(self, trace: str) -> list[Span]:
        """What has arrived of a trace."""
        with self._lock:
            return [span for span in self._spans if span.trace == trace]


@contextmanager
def collecting(address: str | None = None) -> Iterator[Collector]:
    """A collector that listens: on an address of its own, if it is not told where."""
    address = address or free_address()
    server = grpc.server(ThreadPoolExecutor(2))
    collector = Collector(address)
    trace_service_pb2_grpc.add_TraceServiceServicer_to_server(collector, server)
    server.add_insecure_port(address)
    server.start()
    try:
        yield collector
    finally:
        server.stop(None).wait()
