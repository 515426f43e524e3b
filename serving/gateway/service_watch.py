"""Follow the InferenceServices of a namespace, for as long as the process lives."""

from __future__ import annotations

import logging
import time
from typing import TYPE_CHECKING

from endcap.cluster.kinds import INFERENCE_SERVICE
from endcap.cluster.watch import watch
from endcap.deploy.variants import SELECTOR
from endcap_serving.errors import as_own
from endcap_serving.gateway.splits import splits_of
from endcap_serving.json_log import error_fields

if TYPE_CHECKING:
    from endcap.cluster import Cluster
    from endcap_serving.gateway.xds_service import Service

log = logging.getLogger("endcap.xds")
ANEW = 60.0
"""Seconds after which all is listed again: a connection that died without a word misleads for so long at most."""
PAUSE = 1.0
"""Seconds after a failure."""


def follow(cluster: Cluster, namespace: str, service: Service, tls: bool = False) -> None:
    """Tell the service of every change; while the API server is away or refuses, it keeps what it was told.

    tls: whether Envoy has certificates for predictors that speak TLS.
    """
    said = ""
    while True:
        try:
            for found in watch(cluster, INFERENCE_SERVICE, namespace, labels=SELECTOR, seconds=ANEW):
                said = ""
                service.tell(splits_of(found, service.splits, tls=tls))
        except Exception as caught:  # The thread is all that follows the cluster: nothing may end it.
            error = as_own(caught)
            # Its words hold how long it was asked, which differs.
            if error.code != said:
                said = error.code
                log.error("InferenceServices cannot be watched, going on as before", extra=error_fields(error))
            service.fall_back(str(error))
            time.sleep(PAUSE)
