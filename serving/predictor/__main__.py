"""One predictor: ``python -m endcap_serving.predictor --model_name NAME --version V``

It serves a package by KServe's V1 and V2 REST protocols, without gRPC. In a pod of KServe's the package lies in
/mnt/models, where the storage initializer puts it. With several workers this process only starts and watches them.
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
"""A file in a pod. Kubernetes shows its text as the reason why the container ended, and so does `endcap deploy`."""
log = logging.getLogger("endcap.predictor")


def main(arguments: Sequence[str] | None = None) -> int:
    """Run a predictor. Returns the exit status."""
    log_json_lines()
    try:
        return run(arguments)
    except EndcapError as error:
        log.error(CANNOT_RUN, extra=make_log_fields(error))
        _write_termination_log(error)
        return 1


def run(arguments: Sequence[str] | None) -> int:
    """Serve, or start and watch workers. Returns the exit status. Raises EndcapError if the package must not serve."""
    options = parse_arguments(arguments)
    # The numeric libraries read these variables when they are imported. NumPy's products are small: on two threads they
    # take up to ten times as long as on one. Large products go to PyTorch.
    os.environ["OMP_NUM_THREADS"], os.environ["OPENBLAS_NUM_THREADS"] = str(options.threads), "1"
    # Without a handler a container's first process would ignore the signal until it serves.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(0))
    listener = _get_listener(options.host, options.port, options.fd)
    tls_listener = _get_listener(options.host, options.tls_port, options.tls_fd) if options.tls else None
    if options.workers > 1:
        # Workers get the address by the environment: it may hold a password, and all users can read a command line.
        os.environ[ONLINE] = options.online or NONE
        worker_arguments = remove_online_option(sys.argv[1:] if arguments is None else arguments)
        return supervise_workers(worker_arguments, options, listener, tls_listener)
    serve(options, listener, tls_listener)
    return 0


def _get_listener(host: str, port: int, fd: int | None) -> socket.socket:
    """Bind a socket, or take the one that the first process bound."""
    return open_listener(host, port) if fd is None else socket.socket(fileno=fd)


def serve(options: argparse.Namespace, listener: socket.socket, tls_listener: socket.socket | None = None) -> None:
    """Load the package, and serve it until a signal. Raises EndcapError if the package must not serve."""
    from endcap.models.device import find_device
    from endcap.registry.package import describe_environment, load_package
    from endcap.store import check_artifact
    from endcap_serving.predictor.versions import find_mismatches

    # This comes before torch looks for GPUs, which it does only once.
    request, shortage = devices.check_gpus()
    if shortage is not None:
        log.warning(
            "the process does not see all GPUs of the pod", extra={"warning": shortage.words, "fields": shortage.fields}
        )
    # A wrong certificate shows at once, so it is loaded before the package.
    tls = load_server_tls(options)
    # Nobody may have checked the package on its way here, and a changed file must not serve.
    check_artifact(options.package)
    package = load_package(options.package)
    # Loading a model has imported torch, if the model needs it.
    if torch := sys.modules.get("torch"):
        torch.set_num_threads(options.threads)
    mismatches = find_mismatches(package.environment, describe_environment())
    if mismatches:
        versions = {name: {"made_with": version, "here": here} for name, (version, here) in mismatches.items()}
        log.warning("the package was made with other versions", extra=versions)
    if request is not None and shortage is None and find_device(package.model) == "cpu":
        idle_gpus = {"model": package.recommender.model.name, "resource": request.resource, "count": request.count}
        log.warning("the model uses no GPU, so the pod's GPUs are idle", extra={"fields": idle_gpus})
    package.ranker.prepare()
    # The example request proves that the package answers as it did when it was judged.
    package.check()
    # KServe's import takes seconds, which a damaged package need not wait for.
    from endcap.experiments.ranking_token import TokenSigner
    from endcap.registry.online_features import get_shop_name, open_online_features
    from endcap_serving.predictor.engine import Engine, ServedVersion, UnreadableKeys
    from endcap_serving.predictor.metrics import Metrics
    from endcap_serving.predictor.refresh import CatalogueRefresh
    from endcap_serving.predictor.sampling import open_sampler
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
    spec = package.recommender.serving.samples
    sampler = open_sampler(served_version, spec, options.samples, metrics, options.samples_age)
    refresh = None
    if store is not None:
        # A catalogue has megabytes, and no request waits for it.
        catalogue_store = open_online(options.online, shop=get_shop_name(package), timeout=PATIENCE)
        refresh = CatalogueRefresh(catalogue_store, [engine], metrics, options.refresh)
        refresh.start()
    sockets = Sockets(listener, tls_listener, tls, plain=options.plain == "all")
    serve_engines(
        [engine],
        metrics,
        sockets,
        wait=options.drain_wait,
        limit=options.drain_limit,
        heartbeat_pipe=options.signs,
        samplers={options.model_name: sampler} if sampler else None,
    )
    if refresh is not None:
        refresh.close()


def _write_termination_log(error: EndcapError) -> None:
    """Tell Kubernetes why the container ends, if this is a pod."""
    with contextlib.suppress(OSError):
        if TERMINATION_LOG.is_file():
            TERMINATION_LOG.write_text(append_code(str(error), error.code))


if __name__ == "__main__":
    sys.exit(main())
