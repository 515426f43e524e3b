"""OpenTelemetry where it is configured: a span a request, sent to who listens at OTEL_EXPORTER_OTLP_ENDPOINT.

Where that is not set nothing is imported and nothing is done: `open_tracing` gives None, and a server asks for
None once a request. What the SDK reads itself (OTEL_TRACES_SAMPLER, OTEL_RESOURCE_ATTRIBUTES, OTEL_SERVICE_NAME,
OTEL_EXPORTER_OTLP_HEADERS, …) holds here too.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from endcap.secrets import clean_variables

if TYPE_CHECKING:
    from opentelemetry.sdk.trace import TracerProvider
    from opentelemetry.trace import Span

ENDPOINTS = ("OTEL_EXPORTER_OTLP_ENDPOINT", "OTEL_EXPORTER_OTLP_TRACES_ENDPOINT")
HEADERS = ("OTEL_EXPORTER_OTLP_HEADERS", "OTEL_EXPORTER_OTLP_TRACES_HEADERS")
SERVER_ERROR = 500


class Tracing:
    """Spans of one service. Make it in the process that serves, after any fork: a thread sends them."""

    def __init__(self, provider: TracerProvider) -> None:
        from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator

        self._provider = provider
        self._tracer = provider.get_tracer("endcap")
        self._propagator = TraceContextTextMapPropagator()

    def start(self, name: str, headers: Mapping[str, str] | None = None, **attributes: Any) -> Span:
        """Begin the span of a request. headers: `traceparent` and `tracestate` of who asked, where there are such.

        Whoever begins it ends it, by `finish`.
        """
        from opentelemetry.trace import SpanKind

        context = self._propagator.extract(dict(headers or {}))
        return self._tracer.start_span(name, context, SpanKind.SERVER, attributes)

    def child(self, name: str, of: Span, **attributes: Any) -> Span:
        """Begin a span inside another: a part of a request's work."""
        from opentelemetry.trace import set_span_in_context

        return self._tracer.start_span(name, set_span_in_context(of), attributes=attributes)

    def finish(self, span: Span, status: int | None = None, **attributes: Any) -> None:
        """End a span. status: of the HTTP answer; from 500 on the span is marked as failed."""
        span.set_attributes(attributes)
        if status is not None:
            span.set_attribute("http.response.status_code", status)
            if status >= SERVER_ERROR:
                from opentelemetry.trace import StatusCode

                span.set_status(StatusCode.ERROR)
        span.end()

    def close(self) -> None:
        """Send what is left, and stop."""
        self._provider.shutdown()


def open_tracing(service: str, environment: Mapping[str, str] | None = None) -> Tracing | None:
    """Tracing as the environment has it; None where no endpoint is named. service: what this one is called there."""
    variables = os.environ if environment is None else environment
    if not any(variables.get(name) for name in ENDPOINTS) or variables.get("OTEL_SDK_DISABLED", "").lower() == "true":
        return None
    clean_variables((*ENDPOINTS, *HEADERS))  # the exporter reads them itself
    # Half a second of imports, which nobody pays for who traces nothing.
    from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
    from opentelemetry.sdk.resources import Resource
    from opentelemetry.sdk.trace import TracerProvider
    from opentelemetry.sdk.trace.export import BatchSpanProcessor

    named = variables.get("OTEL_SERVICE_NAME") or service
    provider = TracerProvider(resource=Resource.create({"service.name": named}))
    # Bounded: a receiver that is away costs spans, never requests.
    provider.add_span_processor(BatchSpanProcessor(OTLPSpanExporter()))
    return Tracing(provider)
