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
from endcap_serving.json_log import log_fields_of

if TYPE_CHECKING:
    from endcap.cluster import Cluster
    from endcap_serving.gateway.xds_service import XdsService

log = logging.getLogger("endcap.xds")
ANEW = 60.0
"""Seconds after which all is listed again: a connection that died without a word misleads for so long at most."""
PAUSE = 1.0
"""Seconds after a failure."""


def watch_services(cluster: Cluster, namespace: str, service: XdsService, tls: bool = False) -> None:
    """Tell the service of every change; while the API server is away or refuses, it keeps what it was told.

    tls: whether Envoy has certificates for predictors that speak TLS.
    """
    last_code = ""
    while True:
        try:
            for services in watch(cluster, INFERENCE_SERVICE, namespace, labels=SELECTOR, seconds=ANEW):
                last_code = ""
                service.tell(read_splits(services, service.splits, tls=tls))
        except Exception as caught:  # The thread is all that follows the cluster: nothing may end it.
            error = wrap_error(caught)
            # Its words hold how long it was asked, which differs.
            if error.code != last_code:
                last_code = error.code
                log.error("InferenceServices cannot be watched, going on as before", extra=log_fields_of(error))
            service.fall_back(str(error))
            time.sleep(PAUSE)
