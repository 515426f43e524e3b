"""The rollout controller of a cluster: ``python -m endcap_serving.rollouts --namespace NS --store URL``

It does what ModelRollouts of the namespace ask for, looks at each rollout and A/B test when a look is due, and has the
cluster follow. Several may run: the one that holds the Lease acts.
"""

from __future__ import annotations

import argparse
import logging
import os
import signal
import socket
import sys
from collections.abc import Sequence

from endcap.errors import EndcapError
from endcap_serving.durations import parse_duration
from endcap_serving.json_log import CANNOT_RUN, log_json_lines, make_log_fields

log = logging.getLogger("endcap.rollouts")


def parse_arguments(arguments: Sequence[str] | None = None) -> argparse.Namespace:
    """Parse the command line. None: this process's. Exits with status 2 if an option is wrong."""
    parser = argparse.ArgumentParser(
        prog="python -m endcap_serving.rollouts", description="Drive the rollouts of a namespace."
    )
    parser.add_argument("--namespace", required=True, help="where ModelRollouts and InferenceServices are")
    parser.add_argument("--store", required=True, help="the store of the pipelines, such as s3://bucket/prefix")
    parser.add_argument("--registry", default="", help="MLflow's address [default: the store's own]")
    parser.add_argument("--gateway-namespace", default="", help="of the gateway's pods [default: --namespace]")
    parser.add_argument(
        "--prometheus", default="", help="the address of Prometheus, for guardrails [default: pods are asked]"
    )
    parser.add_argument("--intake", default="", help="where the intake writes [default: STORE/intake]")
    parser.add_argument(
        "--segment-age",
        type=parse_duration,
        default="5m",
        metavar="DURATION",
        help="the intake's --segment-age: how late its files may be [5m]",
    )
    parser.add_argument("--lease", default="endcap-rollouts", help="the Lease's name [endcap-rollouts]")
    parser.add_argument("--lease-namespace", default="", help="the Lease's namespace [default: --namespace]")
    parser.add_argument("--holder", default="", help="this process's name [default: the host's, with a number]")
    parser.add_argument("--host", default="127.0.0.1", help="the address of probes and metrics [127.0.0.1]")
    parser.add_argument("--port", type=int, default=8080, help="their port [8080]")
    return parser.parse_args(arguments)


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the controller until SIGTERM or SIGINT. Returns the exit status."""
    options = parse_arguments(arguments)
    log_json_lines()
    # A line for each page that is read every two seconds would hide all others.
    logging.getLogger("httpx").setLevel(logging.WARNING)
    from endcap.ab.cluster_tests import ClusterTests
    from endcap.cluster import connect
    from endcap.cluster.lease import ClusterLease
    from endcap.messages import Message, Messenger
    from endcap.monitoring.probes import serve_probes
    from endcap.rollout.cluster_loop import ClusterRollouts
    from endcap.rollout.feed import IntakeOutput
    from endcap.rollout.messages import RolloutMessage
    from endcap.rollout.request_watcher import GuardrailWatcher
    from endcap.store import open_store
    from endcap_serving.gateway.arm_sources import make_request_watcher
    from endcap_serving.rollouts.process import RolloutProcess

    def send(message: RolloutMessage) -> None:
        send_plain(message.to_message(store))

    def send_plain(sent: Message) -> None:
        log.info("%s: %s", sent.title, sent.text, extra={"rollout": sent.to_json()})
        if problem := messenger.send(sent):
            log.warning("messages do not arrive: %s", problem)

    try:
        cluster, store = connect(), open_store(options.store)
        messenger = Messenger(store)
    except EndcapError as error:
        log.error(CANNOT_RUN, extra=make_log_fields(error))
        return 1
    lease_namespace = options.lease_namespace or options.namespace
    lease = ClusterLease(
        cluster, options.lease, lease_namespace, options.holder or f"{socket.gethostname()}-{os.getpid()}"
    )

    intake = IntakeOutput(options.intake or None, options.segment_age)

    def make_watcher(recommender: str) -> GuardrailWatcher:
        places = {"gateway_namespace": options.gateway_namespace or None, "prometheus": options.prometheus or None}
        return make_request_watcher(store, recommender, cluster, options.namespace, **places)

    def make_rollouts() -> ClusterRollouts:
        registry = options.registry or None
        return ClusterRollouts(
            cluster,
            options.namespace,
            store,
            registry,
            lease.uid,
            make_watcher=make_watcher,
            notify=[send],
            intake=intake,
        )

    def make_tests() -> ClusterTests:
        return ClusterTests(
            cluster,
            options.namespace,
            store,
            options.registry or None,
            make_watcher=make_watcher,
            notify=[send_plain],
            intake=intake,
        )

    process = RolloutProcess(lease, make_rollouts, make_tests)
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, process.stop)
    listener = socket.create_server((options.host, options.port))
    server = serve_probes(listener, lambda: process.is_well, "probes")
    messenger.start()
    try:
        process.run()
    finally:
        messenger.close()
        server.shutdown()
        server.server_close()
    return 0


if __name__ == "__main__":
    sys.exit(main())
