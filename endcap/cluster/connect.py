"""Where the cluster is and who the user is: from a kubeconfig, or from a pod's service account."""

from __future__ import annotations

from pathlib import Path

from endcap.addresses import split_server
from endcap.cluster.client import Cluster
from endcap.errors import UserError

TOKEN = Path("/var/run/secrets/kubernetes.io/serviceaccount/token")


def connect(kubeconfig: str | None = None, context: str | None = None) -> Cluster:
    """Connect to a cluster as kubectl does: by the given file, $KUBECONFIG, ~/.kube/config, or a pod's own account.

    Parameters
    ----------
    kubeconfig
        A kubeconfig's path.
    context
        The kubeconfig's context; None: the current one.

    Returns
    -------
    Cluster
        No request has been sent yet. A login plugin has been called, and is called again when its token expires.

    Raises
    ------
    UserError
        There is neither a kubeconfig nor an account, the file or context cannot be used, or the login fails.
    """
    from kubernetes import client, config
    from kubernetes.config.config_exception import ConfigException

    from endcap.cluster.kubeconfig import Login, find_kubeconfig

    settings = client.Configuration()
    # Retried by ourselves, with pauses.
    settings.retries = False
    files, exists = find_kubeconfig(kubeconfig)
    if exists:
        Login(files, context).fill(settings)
    elif kubeconfig or context or not TOKEN.is_file():
        raise UserError(
            f"no cluster to connect to: there is no kubeconfig at {files}"
            f"{'' if TOKEN.is_file() else ', and this process does not run in a pod'}. Name a kubeconfig with "
            "--kubeconfig or $KUBECONFIG",
            code="cluster.no-kubeconfig",
            path=files,
        )
    else:
        try:
            config.load_incluster_config(client_configuration=settings)
        except ConfigException as error:
            raise UserError(
                f"this pod's service account cannot be used: {error}",
                code="cluster.kubeconfig-unusable",
                path=str(TOKEN),
                reason=str(error),
            ) from None
    _check_server(settings.host, files)
    return Cluster(client.ApiClient(settings), settings.host)


def _check_server(host: str, files: str) -> None:
    """Raise UserError if the API server's address is malformed or holds a password."""
    try:
        parts = split_server(host)
        if parts.scheme not in ("http", "https") or not parts.hostname or "@" in parts.netloc:
            raise ValueError("no address such as https://10.0.0.1:6443")
    except ValueError as error:
        raise UserError(
            f"{files} cannot be used: its server is {error}",
            code="cluster.kubeconfig-unusable",
            path=files,
            reason=str(error),
        ) from None
