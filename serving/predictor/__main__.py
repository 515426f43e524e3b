"""One predictor: ``python -m endcap_serving.predictor --model_name NAME --version V``

Serves a package by KServe's V1 and V2 REST protocols, without gRPC. In a pod of KServe's the package lies in
/mnt/models, where the storage initializer puts it. With several workers this process starts and watches them, and does
nothing else.
"""

from __future__ import annotations

import argparse
import contextlib
import logging
import os
import signal
import socket
import sys
from collections.abc import Sequence
from pathlib import Path

from endcap import devices
from endcap.errors import EndcapError, append_code
from endcap.online import NONE, ONLINE, open_online
from endcap_serving.json_log import CANNOT_RUN, log_json_lines, make_log_fields
from endcap_serving.predictor.options import parse_arguments, remove_online_option
from endcap_serving.predictor.workers import open_listener, supervise_workers
from endcap_serving.tls import load_server_tls

PATIENCE = 5.0
"""Seconds that the online store may take for the catalogue."""
TERMINATION_LOG = Path("/dev/termination-log")
"""In a pod: what a container writes there Kubernetes shows as the reason of its end, and `endcap deploy` with it."""
log = logging.getLogger("endcap.predictor")


def main(arguments: Sequence[str] | None = None) -> int:
    log_json_lines()
    try:
        return run(arguments)
    except EndcapError as error:
        log.error(CANNOT_RUN, extra=make_log_fields(error))
        _write_termination_log(error)
        return 1


def run(arguments: Sequence[str] | None) -> int:
    """Serve, or start and watch those who do. Returns the exit status; raises EndcapError where it must not serve."""
    options = parse_arguments(arguments)
    # Read by the numeric libraries as they are imported. NumPy's products are small: on two threads they take up to ten
    # times as long as on one; large ones go to PyTorch.
    os.environ["OMP_NUM_THREADS"], os.environ["OPENBLAS_NUM_THREADS"] = str(options.threads), "1"
    # As a container's first process it would else not hear of its end until it serves.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(0))
    listener = _get_listener(options.host, options.port, options.fd)
    tls_listener = _get_listener(options.host, options.tls_port, options.tls_fd) if options.tls else None
    if options.workers > 1:
        # Workers get it by the environment: it may hold a password, and everybody may read a command line.
        os.environ[ONLINE] = options.online or NONE
        worker_arguments = remove_online_option(sys.argv[1:] if arguments is None else arguments)
        return supervise_workers(worker_arguments, options, listener, tls_listener)
    serve(options, listener, tls_listener)
    return 0


def _get_listener(host: str, port: int, fd: int | None) -> socket.socket:
    return open_listener(host, port) if fd is None else socket.socket(fileno=fd)


def serve(options: argparse.Namespace, listener: socket.socket, tls_listener: socket.socket | None = None) -> None:
    """Load the package, and serve it until a signal. Raises EndcapError where it must not serve."""
    from endcap.models.device import find_device
    from endcap.registry.package import describe_environment, load_package
    from endcap.store import check_artifact
    from endcap_serving.predictor.versions import find_mismatches

    # Before torch looks for GPUs: it does so once.
    request, shortage = devices.check_gpus()
    if shortage is not None:
        log.warning(
            "GPUs that the pod was given are not seen", extra={"warning": shortage.words, "fields": shortage.fields}
        )
    # Before the package is read, which takes longer to be found wrong.
    tls = load_server_tls(options)
    # Whoever brought the package here may not have looked: a changed file must not serve.
    check_artifact(options.package)
    package = load_package(options.package)
    # Only some models are of torch; loading one has imported it.
    if torch := sys.modules.get("torch"):
        torch.set_num_threads(options.threads)
    mismatches = find_mismatches(package.environment, describe_environment())
    if mismatches:
        versions = {name: {"made_with": version, "here": here} for name, (version, here) in mismatches.items()}
        log.warning("the package was made with other versions", extra=versions)
    if request is not None and shortage is None and find_device(package.model) == "cpu":
        idle_gpus = {"model": package.recommender.model.name, "resource": request.resource, "count": request.count}
        log.warning("the model uses no GPU: those that the pod was given are idle", extra={"fields": idle_gpus})
    package.ranker.prepare()
    # Proof that it answers as it did when it was judged.
    package.check()
    # After the package, because KServe's import takes seconds that a damaged package need not wait for.
    from endcap.experiments.ranking_token import TokenSigner
    from endcap.registry.online_features import get_shop_name, open_online_features
    from endcap_serving.predictor.engine import Engine, ServedVersion, UnreadableKeys
    from endcap_serving.predictor.metrics import Metrics
    from endcap_serving.predictor.refresh import CatalogueRefresh
    from endcap_serving.predictor.server import Sockets
    from endcap_serving.predictor.server import serve_engines as serve_engines

    metrics = Metrics()
    if request is not None:
        metrics.set_missing_gpus(request, shortage)
    metrics.set_model_info(options.model_name, options.version, options.variant, mismatches)
    store = (
        open_online(options.online, shop=get_shop_name(package), timeout=options.online_timeout)
        if options.online
        else None
    )
    observers = (metrics.record_store_call, UnreadableKeys(metrics))
    online_features = (
        open_online_features(store, package, options.version, options.online_timeout, *observers) if store else None
    )
    signer = TokenSigner.from_environment(options.model_name)
    served_version = ServedVersion(
        options.model_name, options.version, options.variant, mismatches, options.scope_from, signer
    )
    engine = Engine(served_version, package.ranker, metrics, online_features)
    refresh = None
    if store is not None:
        # A catalogue is megabytes, and nobody waits for it.
        catalogue_store = open_online(options.online, shop=get_shop_name(package), timeout=PATIENCE)
        refresh = CatalogueRefresh(catalogue_store, [engine], metrics, options.refresh)
        refresh.start()
    sockets = Sockets(listener, tls_listener, tls, plain=options.plain == "all")
    serve_engines(
        [engine], metrics, sockets, wait=options.drain_wait, limit=options.drain_limit, heartbeat_pipe=options.signs
    )
    if refresh is not None:
        refresh.close()


def _write_termination_log(error: EndcapError) -> None:
    with contextlib.suppress(OSError):
        if TERMINATION_LOG.is_file():
            TERMINATION_LOG.write_text(append_code(str(error), error.code))


if __name__ == "__main__":
    sys.exit(main())
