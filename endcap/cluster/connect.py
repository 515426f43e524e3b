"""Where the cluster is and who one is there: a kubeconfig, or a pod's own service account."""

from __future__ import annotations

import os
from pathlib import Path

from endcap.cluster.client import Cluster
from endcap.errors import UserError

TOKEN = Path("/var/run/secrets/kubernetes.io/serviceaccount/token")


def connect(kubeconfig: str | None = None, context: str | None = None) -> Cluster:
    """Connect as kubectl would: the file given, else $KUBECONFIG, else ~/.kube/config, else a pod's own account.

    Nothing is sent yet. Raises UserError where there is neither, or where the file or the context cannot be used.
    """
    from kubernetes import client, config
    from kubernetes.config.config_exception import ConfigException

    settings = client.Configuration()
    # Retried by ourselves, with pauses.
    settings.retries = False
    file = kubeconfig or os.environ.get("KUBECONFIG") or str(Path("~/.kube/config").expanduser())
    there = any(Path(one).expanduser().is_file() for one in file.split(os.pathsep) if one)
    try:
        if there:
            config.load_kube_config(file, context=context, client_configuration=settings, persist_config=False)
        elif kubeconfig or context or not TOKEN.is_file():
            raise UserError(
                f"no cluster to talk to: there is no kubeconfig at {file}"
                f"{'' if TOKEN.is_file() else ', and this is no pod of a cluster'}; name one with --kubeconfig or "
                "$KUBECONFIG",
                code="cluster.no-kubeconfig",
                path=file,
            )
        else:
            config.load_incluster_config(client_configuration=settings)
    except ConfigException as error:
        raise UserError(
            f"{file} cannot be used: {error}", code="cluster.kubeconfig-unusable", path=file, reason=str(error)
        ) from None
    return Cluster(client.ApiClient(settings), settings.host)
