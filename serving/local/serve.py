"""Run the desired state of serving on this machine: predictor processes behind a gateway, kept as the document says.

The document `deployments/<recommender>` in the store says which versions serve which share; `endcap run` and `endcap
deploy` write it. The supervisor looks at it several times a second (in a bucket: once). A new share is a new route and
nothing more; a new version is started beside the old one, takes over when it is ready, and the old one ends when it has
answered all it was asked. Whatever ends the supervisor ends its processes: signals and errors through `close`, SIGKILL
through the kernel.
"""

from __future__ import annotations

import contextlib
import signal
import socket
import threading
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

from endcap.errors import UserError
from endcap.store import Store
from endcap_serving.errors import wrap_error
from endcap_serving.gateway.access.settings import make_local_settings, parse_access
from endcap_serving.gateway.pseudonyms import ShopperLogging
from endcap_serving.local.events import Listener, ServingStarted, ServingStopped
from endcap_serving.local.supervisor import DRAIN_LEAST, TICK, Supervisor

__all__ = ["DRAIN_LEAST", "Supervisor", "serve", "serving"]


def serve(
    store: Store,
    recommender: str,
    *,
    host: str = "127.0.0.1",
    port: int = 8080,
    listener: Listener = print,
    shoppers: ShopperLogging = "plain",
    access: Path | None = None,
    origins: Sequence[str] = (),
    host_names: Sequence[str] = (),
    rate: str = "",
) -> None:
    """Serve what is deployed until SIGINT, SIGTERM or SIGHUP. Call it from the main thread.

    Once it serves it raises nothing: the listener gets an event for each error, and what failed is tried again.

    Parameters
    ----------
    port
        0: any free one.
    listener
        Is called with each event, such as `ServingStarted` with the address.
    shoppers
        What the access log says of the shopper.
    access, origins, host_names, rate
        Who may do what, as the options of `endcap serve` have it.

    Raises
    ------
    NotFoundError
        Nothing is deployed.
    UserError
        The port is taken, or the access policy cannot be used.
    IntegrityError
        The stable version's package is damaged.
    EndcapError
        The stable version cannot be started.
    """
    settings = make_local_settings(host, access, parse_access(origins, host_names, rate))
    stop = threading.Event()
    with _stop_on_signals(stop):
        _check_port(host, port)
        supervisor = Supervisor(store, recommender, host, port, listener, shoppers, settings=settings)
        _run(supervisor, stop, lambda address: supervisor.send_event(ServingStarted(recommender, address)))


@contextlib.contextmanager
def serving(
    store: Store,
    recommender: str,
    *,
    host: str = "127.0.0.1",
    port: int = 0,
    listener: Listener = print,
    shoppers: ShopperLogging = "plain",
) -> Iterator[str]:
    """The same for the length of a block: ``with serving(store, name) as address``. Errors as in `serve`."""
    stop, started = threading.Event(), threading.Event()
    addresses: list[str] = []
    errors: list[BaseException] = []

    def on_ready(address: str) -> None:
        addresses.append(address)
        started.set()

    def run() -> None:
        try:
            _check_port(host, port)
            _run(Supervisor(store, recommender, host, port, listener, shoppers), stop, on_ready)
        except BaseException as error:
            errors.append(error)
            if started.is_set():
                listener(ServingStopped(wrap_error(error)))
        finally:
            started.set()

    # One thread starts all processes and lives until they have ended: see parent_death.py.
    thread = threading.Thread(target=run, name=f"serving-{recommender}", daemon=True)
    thread.start()
    try:
        started.wait()
        if errors:
            raise errors[0]
        yield addresses[0]
    finally:
        stop.set()
        thread.join()


def _run(supervisor: Supervisor, stop: threading.Event, on_ready: Callable[[str], None]) -> None:
    try:
        supervisor.start(stop)
        if not stop.is_set():
            on_ready(supervisor.address)
        while not stop.wait(TICK):
            supervisor.step()
    finally:
        supervisor.close()


@contextlib.contextmanager
def _stop_on_signals(stop: threading.Event) -> Iterator[None]:
    """SIGINT, SIGTERM and SIGHUP set `stop`; as before afterwards."""
    handlers = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)}
    for number in handlers:
        signal.signal(number, lambda *_: stop.set())
    try:
        yield
    finally:
        for number, handler in handlers.items():
            signal.signal(number, handler)


def _check_port(host: str, port: int) -> None:
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((host, port))
        except OSError as error:
            raise UserError(
                f"port {port} on {host} cannot be listened on ({error.strerror}); give another (--port), or 0 for any",
                code="serving.port-taken",
                host=host,
                port=port,
                reason=error.strerror,
            ) from None
