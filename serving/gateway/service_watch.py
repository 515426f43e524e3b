"""Follow the InferenceServices of a namespace, for as long as the process lives."""

from __future__ import annotations

import logging
import time
from typing import TYPE_CHECKING

from endcap.cluster.kinds import INFERENCE_SERVICE
from endcap.cluster.watch import watch
from endcap.deploy.variants import SELECTOR
from endcap_serving.errors import wrap_error
from endcap_serving.gateway.splits import read_splits
from endcap_serving.json_log import make_log_fields

if TYPE_CHECKING:
    from endcap.cluster import Cluster
    from endcap_serving.gateway.xds_service import XdsService

log = logging.getLogger("endcap.xds")
RELIST_INTERVAL = 60.0
"""Seconds after which all services are listed again. A dead connection can hide changes for so long at most."""
PAUSE = 1.0
"""Seconds to wait after a failure."""


def watch_services(cluster: Cluster, namespace: str, service: XdsService, tls: bool = False) -> None:
    """Give the xDS service every change of the InferenceServices. This function does not return.

    Parameters
    ----------
    cluster, namespace
        Where the InferenceServices are.
    service
        The xDS service. While the API server is away or refuses, it keeps the splits that it has.
    tls
        Whether Envoy has certificates for predictors that speak TLS.
    """
    last_code = ""
    while True:
        try:
            for services in watch(cluster, INFERENCE_SERVICE, namespace, labels=SELECTOR, seconds=RELIST_INTERVAL):
                last_code = ""
                service.set_splits(read_splits(services, service.splits, tls=tls))
        except Exception as caught:  # Only this thread follows the cluster, so nothing may end it.
            error = wrap_error(caught)
            # The message says how long the call took, which differs each time. So codes are compared.
            if error.code != last_code:
                last_code = error.code
                log.error("InferenceServices cannot be watched; the routes stay", extra=make_log_fields(error))
            service.fall_back(str(error))
            time.sleep(PAUSE)
