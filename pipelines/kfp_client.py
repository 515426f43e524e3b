"""KFP's own client, with what it lacks for logins, certificates and busy servers.

Checked against kfp 2.17.0 and kfp-server-api 2.17.3.
"""

from __future__ import annotations

import os
import re
from pathlib import Path
from typing import Any

import kfp_server_api
import urllib3
from kfp import client as kfp_client
from kfp.client import KF_PIPELINES_SA_TOKEN_ENV, KF_PIPELINES_SA_TOKEN_PATH
from kfp.client.set_volume_credentials import ServiceAccountTokenVolumeCredentials
from kfp_server_api.rest import RESTClientObject

from endcap.client_faults import find_page_title
from endcap.cluster.connect import TOKEN
from endcap.cluster.kubeconfig import Login, find_kubeconfig
from endcap.errors import UserError

INSTALLED_IN = "kubeflow"
"""Where KFP is installed unless somebody says otherwise."""
TIMEOUT = (10, 30)
"""Seconds to connect, and between two bytes of an answer."""
RETRIES = urllib3.Retry(total=5, connect=0, read=1, status=0, other=0, respect_retry_after_header=False)
"""A connection that a server has closed is made anew; all else is for whoever asks, who says that it waits."""


class UnexpectedPageError(Exception):
    """A page came instead of an answer of KFP's API.

    Attributes
    ----------
    status
        The HTTP status.
    title
        The page's title.
    login
        Whether it is a login page, of a proxy that stands before KFP.
    """

    def __init__(self, status: int, title: str, *, login: bool) -> None:
        super().__init__(title)
        self.status, self.title, self.login = status, title, login


class KfpClient(kfp_client.Client):  # type: ignore[misc]
    """KFP's client.

    Parameters
    ----------
    host, token, cookies, ca
        Address, bearer token, header `Cookie`, and file of certificates.
    context
        The kubeconfig's.
    installed_in
        Namespace of KFP itself. It stands in the address where that is made from the cluster's.
    user_namespace
        Of who asks, where KFP serves several users. None: that of KFP's own settings (~/.config/kfp/context.json), else
        the pod's.
    """

    def __init__(
        self,
        *,
        host: str | None,
        token: str | None,
        cookies: str | None,
        ca: str | None,
        context: str | None,
        installed_in: str | None,
        user_namespace: str | None,
    ) -> None:
        self._installed_in = installed_in or INSTALLED_IN
        self._user_namespace = user_namespace
        self._login: Login | None = None
        self._health: kfp_server_api.V2beta1GetHealthzResponse | None = None
        # The parent takes one namespace for both KFP's and the user's, so it is given neither.
        super().__init__(
            host=host,
            existing_token=token or None,
            cookies=cookies or None,
            ssl_ca_cert=ca,
            kube_context=context,
        )
        self.multi_user = self.get_kfp_healthz().multi_user is True

    @property
    def namespace(self) -> str | None:
        """The user's namespace; None if KFP serves one user, or if no namespace is known."""
        return (self.get_user_namespace() or None) if self.multi_user else None

    def get_kfp_healthz(self, sleep_duration: int = 5) -> kfp_server_api.V2beta1GetHealthzResponse:
        """Ask once. The parent class tries for half a minute, and prints each time."""
        if self._health is None:
            api = self._healthz_api.api_client
            api.rest_client = _Rest(api.configuration, self._login)
            self._health = self._healthz_api.healthz_service_get_healthz()
        return self._health

    def set_user_namespace(self, namespace: str) -> None:
        """Set it for this client alone. The parent class writes what it finds in a pod into the user's settings."""
        self._context_setting["namespace"] = namespace.strip()

    def _load_context_setting_or_default(self) -> None:
        try:
            super()._load_context_setting_or_default()
            self._context_setting.setdefault("namespace", "")
        except (OSError, ValueError, AttributeError) as error:
            raise UserError(
                f"{self._LOCAL_KFP_CONTEXT} cannot be read: {error}. Correct or delete the file",
                code="kfp.settings-unusable",
                path=self._LOCAL_KFP_CONTEXT,
                reason=str(error),
            ) from None
        if self._user_namespace:
            self._context_setting["namespace"] = self._user_namespace

    def _load_config(
        self, host: str | None, client_id: str | None, namespace: str, *rest: Any
    ) -> kfp_server_api.Configuration:
        """KFP's address and who asks: by what is given, else in a pod's own cluster, else by kubeconfig."""
        other_id, other_secret, token, proxy, ca, context, credentials, verify = rest
        token_file = os.environ.get(KF_PIPELINES_SA_TOKEN_ENV)
        if not (host or client_id) and not context and TOKEN.is_file():
            token_file = token_file or KF_PIPELINES_SA_TOKEN_PATH
            host = f"http://{self._IN_CLUSTER_DNS_NAME.format(self._installed_in)}"
        if not (host or client_id):
            return self._by_kubeconfig(token, ca, context)
        if token_file and Path(token_file).is_file() and not (token or client_id or credentials):
            # Read anew for each request, since the kubelet renews it. An address that was given gets it only where
            # the variable says so: it may be anybody's.
            credentials = ServiceAccountTokenVolumeCredentials(token_file)
        return self._hardened(
            super()._load_config(
                host, client_id, namespace, other_id, other_secret, token, proxy, ca, context, credentials, verify
            )
        )

    def _by_kubeconfig(self, token: str | None, ca: str | None, context: str | None) -> kfp_server_api.Configuration:
        files, exists = find_kubeconfig()
        if token or not exists:
            lacks = "a token is given, but" if token else f"there is no kubeconfig at {files}, and"
            raise UserError(f"no KFP is named: {lacks} no --kfp-host (KFP_ENDPOINT)", code="kfp.no-host")
        config = kfp_server_api.Configuration()
        self._login = Login(files, context, save=True)
        # The parent's own reader loses the path below: see `endcap.cluster.kubeconfig`.
        self._login.fill(config)
        config.host = f"{config.host.rstrip('/')}/{self._KUBE_PROXY_PATH.format(self._installed_in).rstrip('/')}"
        if ca:
            config.ssl_ca_cert = ca
        return self._hardened(config)

    @staticmethod
    def _hardened(config: kfp_server_api.Configuration) -> kfp_server_api.Configuration:
        config.retries = RETRIES
        return config


class _Rest(RESTClientObject):  # type: ignore[misc]
    """Sends requests. Each ends in time, a page is no answer, and a refused token is renewed once."""

    def __init__(self, config: kfp_server_api.Configuration, login: Login | None) -> None:
        super().__init__(config)
        self._config, self._login = config, login

    def request(self, method: str, url: str, **options: Any) -> Any:
        """Raises PageError, ApiException, and urllib3's own errors."""
        options["_request_timeout"] = options.get("_request_timeout") or TIMEOUT
        kind = (options.get("headers") or {}).get("Content-Type")
        try:
            return self._answer(method, url, options)
        except kfp_server_api.ApiException as error:
            if error.status != 401 or self._login is None or not self._login.renew(self._config):
                raise
        options["headers"]["authorization"] = self._config.api_key["authorization"]
        if kind:
            options["headers"]["Content-Type"] = kind  # of a form, which the first request took away
        return self._answer(method, url, options)

    def _answer(self, method: str, url: str, options: dict[str, Any]) -> Any:
        try:
            response = super().request(method, url, **options)
        except kfp_server_api.ApiException as error:
            error.body = error.body or b""
            if error.status < 500:
                _refuse_page(error.status, error.body, url, url)
            raise
        if options.get("_preload_content", True):
            _refuse_page(response.status, response.data, url, response.urllib3_response.geturl() or url)
        return response


def _refuse_page(status: int, body: bytes | str, requested: str, came_from: str) -> None:
    """Raise UnexpectedPageError for a body that is no document of KFP's API.

    requested, came_from: addresses before and after redirections.
    """
    text = (body.decode(errors="replace") if isinstance(body, bytes) else body).lstrip()
    if not text.startswith("<") and (status >= 300 or text.startswith("{")):
        return
    words = find_page_title(text, "html") or ""
    elsewhere = "/apis/" in requested and "/apis/" not in came_from.partition("?")[0]
    named = re.search(r"log ?in|sign ?in|authenticat", words, re.IGNORECASE)
    raise UnexpectedPageError(status, words, login=bool(elsewhere or named) or status in (401, 403))
