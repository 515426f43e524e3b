"""Serve on this machine what the desired state says: predictor processes behind a gateway.

The document `deployments/<recommender>` in the store says which versions serve which share. `endcap run` and `endcap
deploy` write it. The supervisor reads it several times a second (from a bucket: once). A new share only changes routes.
A new version is started beside the old one and takes over when it is ready. The old one ends when it has answered its
requests. If the supervisor ends, its processes end too: by `close` after signals and errors, by the kernel after
SIGKILL.
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

    Once it serves, it raises nothing: the listener gets an event for each error, and what failed is tried again.

    Parameters
    ----------
    store
        The store with the desired state and the packages.
    recommender
        The recommender's name.
    host, port
        Where the gateway listens. Port 0: any free port.
    listener
        Is called with each event, such as `ServingStarted` with the address.
    shoppers
        What the access log says of a shopper.
    access, origins, host_names, rate
        Who may do what, as in the options of `endcap serve`.

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
    """Serve what is deployed for the length of a block: ``with serving(store, name) as address``.

    Parameters and errors are those of `serve`. An error after the start goes to the listener as `ServingStopped`.

    Yields
    ------
    str
        The gateway's URL.
    """
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

    # One thread starts all processes and runs until they have ended (see parent_death.py).
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
    """Run a supervisor, and the rollouts beside it, until `stop` is set."""
    rollouts = supervisor.make_rollout_loop()
    try:
        supervisor.start(stop)
        if not stop.is_set():
            on_ready(supervisor.address)
            rollouts.start()
        while not stop.wait(TICK):
            supervisor.step()
    finally:
        rollouts.close()
        supervisor.close()


@contextlib.contextmanager
def _stop_on_signals(stop: threading.Event) -> Iterator[None]:
    """Have SIGINT, SIGTERM and SIGHUP set `stop`. The handlers before are restored afterwards."""
    handlers = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)}
    for number in handlers:
        signal.signal(number, lambda *_: stop.set())
    try:
        yield
    finally:
        for number, handler in handlers.items():
            signal.signal(number, handler)


def _check_port(host: str, port: int) -> None:
    """Check that the gateway can listen. Raises UserError."""
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((host, port))
        except OSError as error:
            raise UserError(
                f"port {port} of {host} cannot be used ({error.strerror}); give another by --port, or 0 for any",
                code="serving.port-taken",
                host=host,
                port=port,
                reason=error.strerror,
            ) from None
