"""OpenTelemetry: one span for each request, sent to the address in OTEL_EXPORTER_OTLP_ENDPOINT.

If that variable is not set, `open_tracing` returns None and imports nothing. The variables that the SDK reads itself
(OTEL_TRACES_SAMPLER, OTEL_RESOURCE_ATTRIBUTES, OTEL_SERVICE_NAME, OTEL_EXPORTER_OTLP_HEADERS, …) work here too.
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
    """Spans of one service. Make it in the process that serves, after any fork, because a thread sends the spans.

    Parameters
    ----------
    provider
        The SDK's provider, which `open_tracing` configures.
    """

    def __init__(self, provider: TracerProvider) -> None:
        from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator

        self._provider = provider
        self._tracer = provider.get_tracer("endcap")
        self._propagator = TraceContextTextMapPropagator()

    def start(self, name: str, headers: Mapping[str, str] | None = None, **attributes: Any) -> Span:
        """Start the span of a request. The caller ends it by `finish`.

        Parameters
        ----------
        name
            The span's name.
        headers
            The request's `traceparent` and `tracestate`, if it has them.
        **attributes
            The span's attributes.
        """
        from opentelemetry.trace import SpanKind

        context = self._propagator.extract(dict(headers or {}))
        return self._tracer.start_span(name, context, SpanKind.SERVER, attributes)

    def start_child(self, name: str, parent: Span, **attributes: Any) -> Span:
        """Start a span inside another one, for a part of a request's work. The caller ends it by `finish`."""
        from opentelemetry.trace import set_span_in_context

        return self._tracer.start_span(name, set_span_in_context(parent), attributes=attributes)

    def finish(self, span: Span, status: int | None = None, **attributes: Any) -> None:
        """End a span.

        Parameters
        ----------
        span
            The span.
        status
            The answer's HTTP status. From 500 on the span is marked as failed.
        **attributes
            Further attributes of the span.
        """
        span.set_attributes(attributes)
        if status is not None:
            span.set_attribute("http.response.status_code", status)
            if status >= SERVER_ERROR:
                from opentelemetry.trace import StatusCode

                span.set_status(StatusCode.ERROR)
        span.end()

    def close(self) -> None:
        """Send the remaining spans, and stop."""
        self._provider.shutdown()


def open_tracing(service: str, environment: Mapping[str, str] | None = None) -> Tracing | None:
    """Open tracing as the environment configures it.

    Parameters
    ----------
    service
        The service's name, if OTEL_SERVICE_NAME gives no other.
    environment
        The variables. None: those of this process.

    Returns
    -------
    Tracing or None
        None if no endpoint is named, or OTEL_SDK_DISABLED is true.
    """
    variables = os.environ if environment is None else environment
    if not any(variables.get(name) for name in ENDPOINTS) or variables.get("OTEL_SDK_DISABLED", "").lower() == "true":
        return None
    clean_variables((*ENDPOINTS, *HEADERS))  # the exporter reads them itself
    # These imports take half a second, which a server without tracing need not spend.
    from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
    from opentelemetry.sdk.resources import Resource
    from opentelemetry.sdk.trace import TracerProvider
    from opentelemetry.sdk.trace.export import BatchSpanProcessor

    service_name = variables.get("OTEL_SERVICE_NAME") or service
    provider = TracerProvider(resource=Resource.create({"service.name": service_name}))
    # The queue is bounded: if the receiver is away, spans are lost, never requests.
    provider.add_span_processor(BatchSpanProcessor(OTLPSpanExporter()))
    return Tracing(provider)
