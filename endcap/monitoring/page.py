"""The page `/metrics` of a store."""

from __future__ import annotations

from collections.abc import Mapping

from prometheus_client import CollectorRegistry, start_http_server

from endcap.errors import UserError
from endcap.monitoring.store_collector import EVERY, ReadMetrics, StoreCollector
from endcap.store import Store


class MetricsPage:
    """Serves a store's metrics from its making to `close`.

    Parameters
    ----------
    store, registry_uri, every, more
        As in `StoreCollector`.
    host, port
        Where to listen; port 0: any free one.

    Attributes
    ----------
    address
        The page's URL.

    Raises
    ------
    UserError
        The port cannot be used.
    """

    def __init__(
        self,
        store: Store,
        registry_uri: str | None,
        host: str,
        port: int,
        *,
        every: float = EVERY,
        more: Mapping[str, ReadMetrics] | None = None,
    ) -> None:
        self._collector = StoreCollector(store, registry_uri, every=every, more=more)
        registry = CollectorRegistry()
        try:
            self._server, self._thread = start_http_server(port, host, registry)
        except OSError as error:
            raise UserError(
                f"port {port} of {host} cannot be used for metrics ({error.strerror}); give another, or 0 for any",
                code="monitoring.port-taken",
                host=host,
                port=port,
                reason=error.strerror,
            ) from None
        registry.register(self._collector)
        self.address = f"http://{host}:{self._server.server_port}/metrics"
        self._collector.start()

    def close(self) -> None:
        """End the server and the reading."""
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()
        self._collector.close()
