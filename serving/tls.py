"""TLS of a server of uvicorn's: its certificate, kept up with the files, and the clients that it lets in.

The files are a mounted Secret of the type kubernetes.io/tls: `tls.crt` and `tls.key`, and `ca.crt` of the authority
whose clients may come in. A kubelet exchanges all of them at once, by a link to another folder.
"""

from __future__ import annotations

import argparse
import asyncio
import logging
import ssl
from collections.abc import Iterable
from pathlib import Path

from endcap.errors import UserError
from endcap_serving.json_log import log_fields_of
from endcap_serving.names import AUTHORITY, CERTIFICATE, PRIVATE_KEY

LOOK = 2.0
"""Seconds between two looks whether the certificate was renewed."""
log = logging.getLogger("endcap.tls")


def add_tls_options(parser: argparse.ArgumentParser) -> None:
    """What a server is told of TLS."""
    add = parser.add_argument
    add("--tls", type=Path, metavar="DIR", help="a folder with tls.crt and tls.key: speak TLS at --tls-port")
    add("--tls-port", type=int, default=8443, help="where it speaks TLS")
    clients = "DNS names, with commas: let in only who has a certificate of the folder's ca.crt for one of them"
    add("--tls-clients", type=_names, default=(), metavar="NAMES", help=clients)
    plain = "with --tls, what --port answers: all, or how the server is and nothing else"
    add("--plain", choices=("all", "health"), default="health", help=plain)


def load_server_tls(options: argparse.Namespace) -> ServerTls | None:
    """Raises UserError where the certificate cannot be used."""
    return ServerTls(options.tls, options.tls_clients) if options.tls else None


class ServerTls:
    """The context of a listening socket: connections that are made after a renewal have the new certificate."""

    def __init__(self, folder: Path, clients: Iterable[str] = ()) -> None:
        """clients: DNS names, of which a client's certificate must have one; none: no certificate is asked for.

        Raises UserError where the files cannot be used.
        """
        self._folder = folder
        self.clients = frozenset(clients)
        self.context = self._read()
        self._loaded = self._state()

    def renew(self) -> bool:
        """Read the files again where they have changed. Whether a new certificate is shown from now on.

        Raises UserError for files that cannot be used; the certificate before stays then. An authority is added to
        those that are trusted, and none is taken away before the process ends.
        """
        state = self._state()
        if state == self._loaded:
            return False
        # The live context would be left with a certificate and the key of another.
        self._read()
        self._load(self.context)
        self._loaded = state
        return True

    async def follow(self) -> None:
        """Renew for as long as the server runs; what is wrong is logged once for each change of the files."""
        last_state: object = None
        while True:
            await asyncio.sleep(LOOK)
            try:
                if self.renew():
                    log.info("a new certificate is shown", extra={"folder": str(self._folder)})
            except UserError as error:
                if last_state != (last_state := self._state()):
                    log.error("the certificate is not renewed", extra=log_fields_of(error))

    def _read(self) -> ssl.SSLContext:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.minimum_version = ssl.TLSVersion.TLSv1_2
        if self.clients:
            context.verify_mode = ssl.CERT_REQUIRED
        self._load(context)
        return context

    def _load(self, context: ssl.SSLContext) -> None:
        # All out of one folder, though a kubelet may exchange it meanwhile.
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

    def _state(self) -> tuple[tuple[str, int, int], ...]:
        """What tells files from those before: also a link that leads elsewhere is another."""
        state = []
        for name in (CERTIFICATE, PRIVATE_KEY, AUTHORITY):
            try:
                file = (self._folder / name).resolve()
                state.append((str(file), file.stat().st_mtime_ns, file.stat().st_size))
            except OSError:
                state.append((name, 0, 0))
        return tuple(state)


def _names(text: str) -> tuple[str, ...]:
    return tuple(filter(None, text.split(",")))
