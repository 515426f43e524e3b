"""A kubeconfig as clients are set up by it: address, certificates, and a token that is renewed.

On the official client's reader, whose renewal two things are wrong with (kubernetes 30.1.0, `config/kube_config.py`):

- A user with a token (`token`, `tokenFile`, an exec plugin, an auth provider) brings a hook that is called before each
  request and sets *all* settings anew, the address too (`KubeConfigLoader._set_config`). kfp 2.17.0 appends the path of
  its service to that address, and loses it with the first request.
- A plugin that fails is logged and passed over (`_load_from_exec_plugin`); what is asked then is refused with 401.
"""

from __future__ import annotations

import contextlib
import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import yaml
from kubernetes.config.config_exception import ConfigException
from kubernetes.config.dateutil import parse_rfc3339
from kubernetes.config.kube_config import FileOrData, KubeConfigLoader, KubeConfigMerger

from endcap.cluster.login_plugin import failed_login, run_plugin
from endcap.errors import EndcapError, UserError
from endcap.safe_reading import check_regular

EARLY = timedelta(seconds=30)
"""How long before it runs out a token is renewed."""
_UNREADABLE = (
    ConfigException,
    yaml.YAMLError,
    OSError,
    AttributeError,
    KeyError,
    TypeError,
    ValueError,
    RecursionError,
)
"""What the client's reader raises for a file that is no kubeconfig."""
MOST = 4 << 20
"""Bytes of a kubeconfig."""


def find_kubeconfig(path: str | None = None) -> tuple[str, bool]:
    """The file or files (as $KUBECONFIG has them) that kubectl would read, and whether one of them is there."""
    files = path or os.environ.get("KUBECONFIG") or str(Path("~/.kube/config").expanduser())
    return files, any(Path(name).expanduser().is_file() for name in files.split(os.pathsep) if name)


class Login:
    """Who one is by a kubeconfig.

    Parameters
    ----------
    files
        As `find_kubeconfig` gives them.
    context
        None: the current one.
    save
        Whether a renewed token of an auth provider is written back, as kubectl does.
    """

    def __init__(self, files: str, context: str | None = None, *, save: bool = False) -> None:
        self._files, self._context, self._save = files, context, save
        self._loader = self._read()

    def fill(self, settings: Any) -> None:
        """Set address, certificates and token of a client's Configuration; the token is renewed before it runs out.

        Raises UserError where the login fails, now or at a request.
        """
        with self._words():
            self._loader.load_and_set(settings)
        settings.refresh_api_key_hook = None
        if self._loader.token:
            self._keep(settings)
            settings.refresh_api_key_hook = self._refresh

    def renew(self, settings: Any) -> bool:
        """Log in anew, where a token was refused; whether there is another one than before. Raises UserError."""
        before = self._loader.token
        if not before:
            return False
        loader = self._read()
        with self._words():
            loader._load_authentication()
        self._loader = loader
        self._keep(settings)
        return self._loader.token != before

    def _refresh(self, settings: Any) -> None:
        expiry = self._loader.expiry
        if expiry is not None and parse_rfc3339(expiry) - EARLY <= datetime.now(UTC):
            with self._words():
                self._loader._load_authentication()
        self._keep(settings)

    def _keep(self, settings: Any) -> None:
        """The token alone: the address may have got a path since."""
        settings.api_key["authorization"] = str(self._loader.token).strip()

    def _read(self) -> _LoginLoader:
        with self._words():
            for name in filter(None, self._files.split(os.pathsep)):
                _check_file(Path(name).expanduser())
            merged = KubeConfigMerger(self._files)
            if merged.config is None:
                raise ConfigException("it holds nothing")
            persister: Callable[[], None] | None = merged.save_changes if self._save else None
            return _LoginLoader(merged.config, self._context, config_base_path=None, config_persister=persister)

    @contextmanager
    def _words(self) -> Iterator[None]:
        """What the reader and the libraries of auth providers raise, in words."""
        try:
            yield
        except EndcapError:
            raise
        except _UNREADABLE as error:
            raise UserError(
                f"{self._files} cannot be used: {error}",
                code="cluster.kubeconfig-unusable",
                path=self._files,
                reason=str(error),
            ) from None
        except Exception as error:  # of google-auth, adal, oauthlib: they share no class
            raise failed_login(["auth-provider"], f"{type(error).__name__}: {error}") from None


def _check_file(file: Path) -> None:
    """Raises OSError, ValueError where a file of the kubeconfig is none that could be read to its end."""
    with contextlib.suppress(FileNotFoundError):  # the reader passes over it
        if file.stat().st_size > MOST:
            raise ValueError(f"{file} has more than {MOST:,} bytes")
        check_regular(file)


class _LoginLoader(KubeConfigLoader):  # type: ignore[misc]
    """token: as the header `authorization` has it. expiry: when that runs out."""

    token: str | None = None
    expiry: Any = None

    def _load_from_exec_plugin(self) -> bool | None:
        if "exec" not in self._user:
            return None
        folder = self._get_base_path(self._cluster.path)
        status = run_plugin(self._user["exec"].value, folder, self._cluster_info())
        expiry = status.get("expirationTimestamp")
        self.expiry = parse_rfc3339(expiry) if expiry else None
        if status.get("token"):
            self.token = f"Bearer {status['token']}"
            return True
        for name, key in (("cert_file", "clientCertificateData"), ("key_file", "clientKeyData")):
            data = FileOrData(status, None, data_key_name=key, base64_file_content=False)
            setattr(self, name, data.as_file())
        return True

    def _cluster_info(self) -> dict[str, Any]:
        names = ("server", "tls-server-name", "insecure-skip-tls-verify", "certificate-authority-data", "proxy-url")
        return {name: self._cluster.value[name] for name in names if name in self._cluster}

    def _set_config(self, settings: Any) -> None:
        for name in ("host", "ssl_ca_cert", "cert_file", "key_file", "verify_ssl", "tls_server_name"):
            if name in self.__dict__:
                setattr(settings, name, self.__dict__[name])
