"""TLS of a uvicorn server: a certificate that follows its files, and the clients that the server lets in.

The files are a mounted Secret of the type kubernetes.io/tls: `tls.crt`, `tls.key`, and `ca.crt` of the authority that
signs the certificates of clients. A kubelet exchanges all of them at once, by a link to another folder.
"""

from __future__ import annotations

import argparse
import asyncio
import logging
import ssl
from collections.abc import Iterable
from pathlib import Path

from endcap.errors import UserError
from endcap_serving.json_log import make_log_fields
from endcap_serving.names import AUTHORITY, CERTIFICATE, PRIVATE_KEY

LOOK = 2.0
"""Seconds between two checks whether the certificate was renewed."""
log = logging.getLogger("endcap.tls")


def add_tls_options(parser: argparse.ArgumentParser) -> None:
    """Add the options about TLS to a server's command line."""
    add = parser.add_argument
    add("--tls", type=Path, metavar="DIR", help="folder with tls.crt and tls.key; the server speaks TLS at --tls-port")
    add("--tls-port", type=int, default=8443, help="port for TLS")
    clients = "DNS names, separated by commas; only clients with a certificate of ca.crt for one of them are let in"
    add("--tls-clients", type=_split_names, default=(), metavar="NAMES", help=clients)
    plain = "with --tls, what --port answers: all requests, or only health and metrics"
    add("--plain", choices=("all", "health"), default="health", help=plain)


def load_server_tls(options: argparse.Namespace) -> ServerTls | None:
    """Load the certificate that the options name.

    Parameters
    ----------
    options
        Parsed arguments of `add_tls_options`.

    Returns
    -------
    ServerTls or None
        None if the server shall not speak TLS.

    Raises
    ------
    UserError
        The certificate cannot be used.
    """
    return ServerTls(options.tls, options.tls_clients) if options.tls else None


class ServerTls:
    """The TLS context of a listening socket. Connections that are made after a renewal get the new certificate.

    Parameters
    ----------
    folder
        The folder with `tls.crt`, `tls.key` and, if clients are named, `ca.crt`.
    clients
        DNS names. The certificate of a client must have one of them. Empty: the server asks for no certificate.

    Raises
    ------
    UserError
        The files cannot be used.
    """

    def __init__(self, folder: Path, clients: Iterable[str] = ()) -> None:
        self._folder = folder
        self.clients = frozenset(clients)
        self.context = self._make_context()
        self._loaded = self._read_state()

    def renew(self) -> bool:
        """Read the files again if they have changed.

        Returns
        -------
        bool
            True if the server shows a new certificate from now on.

        Raises
        ------
        UserError
            The new files cannot be used. The server keeps its certificate.

        Notes
        -----
        A new authority is added to those that are trusted. The old one stays trusted until the process ends.
        """
        state = self._read_state()
        if state == self._loaded:
            return False
        # A new context first: if the key does not match, the live one would be left with two halves.
        self._make_context()
        self._load_files(self.context)
        self._loaded = state
        return True

    async def follow(self) -> None:
        """Renew the certificate for as long as the server runs. Each change that cannot be used is logged once."""
        last_state: object = None
        while True:
            await asyncio.sleep(LOOK)
            try:
                if self.renew():
                    log.info("the server shows a new certificate", extra={"folder": str(self._folder)})
            except UserError as error:
                if last_state != (last_state := self._read_state()):
                    log.error("the new certificate cannot be used; the old one stays", extra=make_log_fields(error))

    def _make_context(self) -> ssl.SSLContext:
        """Make a context from the files. Raises UserError."""
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.minimum_version = ssl.TLSVersion.TLSv1_2
        if self.clients:
            context.verify_mode = ssl.CERT_REQUIRED
        self._load_files(context)
        return context

    def _load_files(self, context: ssl.SSLContext) -> None:
        """Load certificate, key and authority into a context. Raises UserError."""
        # All files come out of one folder, although a kubelet may exchange the link meanwhile.
        folder = (self._folder / CERTIFICATE).resolve().parent
        try:
            context.load_cert_chain(folder / CERTIFICATE, folder / PRIVATE_KEY)
            if self.clients:
                context.load_verify_locations(folder / AUTHORITY)
        except OSError as error:  # ssl's own among them
            keys = [CERTIFICATE, PRIVATE_KEY, *([AUTHORITY] if self.clients else [])]
            raise UserError(
                f"the certificate in {self._folder} cannot be used ({error}); allowed: {', '.join(keys)} in PEM, the "
                "key without a password and of this certificate",
                code="serving.certificate-unusable",
                folder=str(self._folder),
                keys=keys,
                reason=str(error),
            ) from None

    def _read_state(self) -> tuple[tuple[str, int, int], ...]:
        """Return where each file lies, its time and its size. A link that leads elsewhere is a change too."""
        state = []
        for name in (CERTIFICATE, PRIVATE_KEY, AUTHORITY):
            try:
                file = (self._folder / name).resolve()
                state.append((str(file), file.stat().st_mtime_ns, file.stat().st_size))
            except OSError:
                state.append((name, 0, 0))
        return tuple(state)


def _split_names(text: str) -> tuple[str, ...]:
    """Split names at commas."""
    return tuple(filter(None, text.split(",")))
