"""Tell Envoy who answers whom: ``python -m endcap_serving.xds --namespace NS [--port 18000] [--state FILE]``

A small REST xDS service beside the gateway's Envoy, a child of the same process (envoy.py). Envoy asks it several times
a second for clusters and routes. What they are follows from the InferenceServices of the namespace, which are watched.
While the API server is away the last state stays; a service that starts meanwhile takes it from the file, with everyone
on the stable version, because a canary may have been withdrawn since. For what no predictor answers it is the list
server too (fallback.py).
"""

from __future__ import annotations

import argparse
import json
import logging
import sys
import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from endcap.errors import EndcapError, IntegrityError, StorageError, UserError
from endcap_serving import fallback, last_state
from endcap_serving.access.filters import EXTENSIONS
from endcap_serving.access.policy import RANKINGS
from endcap_serving.access.settings import Settings, add_options
from endcap_serving.announcer import Announcer, Splits
from endcap_serving.gateway import Json, Split, Terms, Upstream
from endcap_serving.heads import BoundedHeads
from endcap_serving.json_log import CANNOT_RUN, error_fields, log_json_lines
from endcap_serving.last_state import LastState
from endcap_serving.refused import RefusedError, error_document
from endcap_serving.splits import without_shadow
from endcap_serving.wire import PLACE

if TYPE_CHECKING:
    from starlette.applications import Starlette
    from starlette.requests import Request
    from starlette.responses import Response

log = logging.getLogger("endcap.xds")
_USUAL_SETTINGS = Settings()
PATIENCE = 5.0
"""Seconds that the API server has to answer before the last state is served."""


class Service:
    """What the watch tells (from its own thread) and Envoy asks (from the server's)."""

    def __init__(
        self,
        state: Path | None = None,
        intake: Upstream | None = None,
        secrets: Path = PLACE,
        settings: Settings = _USUAL_SETTINGS,
    ) -> None:
        """settings: of access."""
        self._file = state
        self._last = self._read()
        self.settings = settings
        in_use = self._last.in_use if self._last else ()
        self._announcer = Announcer(in_use, intake=intake, secrets=secrets, access=lambda: settings.access)
        self._told_at = time.monotonic()
        self._refused = ""

    @property
    def splits(self) -> Splits:
        """What is routed now, or was last; empty where nothing is known."""
        known = self._announcer.splits
        if known is not None:
            return known
        return self._last.splits if self._last else {}

    def lists(self) -> dict[str, Terms]:
        """For when nobody answers, by recommender."""
        return {name: split.terms for name, split in self.splits.items()}

    @property
    def ready(self) -> bool:
        """Whether there is anything to tell an Envoy."""
        return self._announcer.splits is not None

    def tell(self, splits: Splits) -> None:
        """Route so from now on."""
        before = self._announcer.splits
        if splits == before:
            return
        self._told_at = time.monotonic()
        self._announcer.splits = splits
        _log_changes(before or {}, splits)
        if self._file:
            try:
                last_state.write(self._file, LastState(splits, self._announcer.in_use))
            except OSError as error:
                own = StorageError(str(error), code="gateway.state-unwritable", file=str(self._file))
                log.error("the state cannot be kept", extra=error_fields(own))

    def fall_back(self, why: str) -> None:
        """The API server has not answered: start on the last state, where nothing newer is known."""
        if self.ready:
            return
        if self._last is None:
            log.warning("no state to start on", extra={"why": why})
            return
        log.warning("started on the last state, everyone on stable", extra={"why": why})
        self._announcer.splits = {name: _all_on_stable(split) for name, split in self._last.splits.items()}
        _log_changes({}, self._announcer.splits)

    def clusters(self, version: str) -> Json | None:
        """A discovery response to who holds `version`; None: not modified."""
        answer = self._announcer.clusters(version)
        if (refused := self._announcer.refused) and refused != self._refused:
            own = EndcapError("see Envoy's log", code="gateway.configuration-refused", version=refused)
            log.error("Envoy has not taken clusters or routes", extra=error_fields(own))
        self._refused = refused
        return answer

    def routes(self, version: str) -> Json | None:
        before = self._announcer.routed
        answer = self._announcer.routes(version)
        if self._announcer.routed not in ("", before):
            seconds = round(time.monotonic() - self._told_at, 3)
            log.info("Envoy took routes", extra={"version": self._announcer.routed, "seconds": seconds})
        return answer

    def extension(self, name: str, version: str) -> Json | None:
        return self._announcer.extension(name, version)

    def _read(self) -> LastState | None:
        try:
            return last_state.read(self._file) if self._file else None
        except IntegrityError as error:
            log.error("the last state is not used", extra=error_fields(error))
            return None


def application(service: Service, alive: Callable[[], bool]) -> Starlette:
    """The service over HTTP, as Envoy's REST protocol has it. `alive`: whether the namespace is still watched."""
    from starlette.applications import Starlette
    from starlette.responses import JSONResponse, Response
    from starlette.routing import Mount, Route

    def refused(error: RefusedError) -> Response:
        return JSONResponse(error_document(error), error.status)

    def extension(version: str, names: list[str]) -> Json | None:
        return service.extension(names[0], version) if names and names[0] in EXTENSIONS else None

    def health(_: Request) -> Response:
        return JSONResponse({"access": service.settings.health()}, 200 if alive() else 503)

    def discovery(kind: str, ask: Callable[[str, list[str]], Json | None]) -> Route:
        async def answer(request: Request) -> Response:
            # Open to the pod alone, wherever this listens.
            if request.client is None or request.client.host not in ("127.0.0.1", "::1"):
                return refused(fallback.not_local())
            try:
                said = json.loads(await request.body())
                version, names = said.get("version_info", ""), said.get("resource_names", [])
            except (ValueError, AttributeError):
                return refused(RefusedError(400, "the body is not a DiscoveryRequest", code="gateway.discovery-body"))
            found = ask(version, names)
            return JSONResponse(found) if found else Response(status_code=304)

        return Route(f"/v3/discovery:{kind}", answer, methods=["POST"])

    def state(is_so: Callable[[], bool]) -> Callable[[Request], Response]:
        return lambda _: Response(status_code=200 if is_so() else 503)

    return Starlette(
        routes=[
            discovery("clusters", lambda version, _: service.clusters(version)),
            discovery("routes", lambda version, _: service.routes(version)),
            discovery("extension_configs", extension),
            Route("/healthz", health),
            Route("/readyz", state(lambda: service.ready)),
            # Whatever else Envoy asks is a shopper's request.
            Mount("/", fallback.application(service.lists)),
        ]
    )


def arguments(words: Sequence[str] | None = None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m endcap_serving.xds", description="Tell Envoy who answers whom.")
    parser.add_argument("--namespace", required=True, help="of the InferenceServices")
    parser.add_argument("--port", type=int, default=18000)
    parser.add_argument("--state", type=Path, help="the file that keeps the last state")
    parser.add_argument("--intake", type=intake_at, metavar="HOST:PORT", help="who takes events; left out: nobody")
    parser.add_argument("--intake-tls", action="store_true", help="the intake is spoken to by TLS")
    parser.add_argument("--upstream-tls", action="store_true", help="Envoy has certificates for who speaks TLS")
    parser.add_argument("--secrets", type=Path, default=PLACE, metavar="DIR", help="where they are, as Envoy is told")
    add_options(parser)
    return parser.parse_args(words)


def intake_at(place: str) -> Upstream:
    """The intake's Service, by HOST:PORT. Raises argparse's error where it is none."""
    host, _, port = place.rpartition(":")
    if not host or not port.isdigit() or not 0 < int(port) < 2**16:
        raise argparse.ArgumentTypeError(f"found {place!r}; allowed: HOST:PORT, such as endcap-intake.endcap.svc:8080")
    return Upstream(f"intake/{place}", int(port), host, kind="intake")


def main(words: Sequence[str] | None = None) -> int:
    import uvicorn

    from endcap.cluster.connect import connect
    from endcap_serving.watching import follow

    given = arguments(words)
    log_json_lines()
    try:
        cluster = connect()
    except UserError as error:
        log.error(CANNOT_RUN, extra=error_fields(error))
        return 1
    intake = replace(given.intake, tls=given.intake_tls) if given.intake else None
    service = Service(given.state, intake, given.secrets, Settings.of(given, RANKINGS))
    watched = (cluster, given.namespace, service, given.upstream_tls)
    watcher = threading.Thread(target=follow, args=watched, name="watch", daemon=True)
    watcher.start()
    late = threading.Timer(PATIENCE, service.fall_back, [f"the API server has not answered within {PATIENCE:.0f} s"])
    late.daemon = True
    late.start()
    # Connections outlive the gap between two questions; a line a question would say nothing.
    uvicorn.run(
        application(service, watcher.is_alive),
        http=BoundedHeads,
        host="127.0.0.1",
        port=given.port,
        log_config=None,
        access_log=False,
        lifespan="off",
        loop="asyncio",
        timeout_keep_alive=75,
        # Envoy says who it is in x-forwarded-for, which is not where the question comes from.
        proxy_headers=False,
    )
    return 0


def _all_on_stable(split: Split) -> Split:
    split = without_shadow(split)
    return split if split.stable is None else replace(split, canary=None, share=0.0)


def _log_changes(before: Splits, after: Splits) -> None:
    for name in sorted({*before, *after}):
        if before.get(name) != after.get(name):
            split = after.get(name)
            log.info("routed anew" if split else "routed no more", extra={"recommender": name, **_told(split)})


def _told(split: Split | None) -> Json:
    if split is None:
        return {}
    names = {"stable": split.stable and split.stable.name, "canary": split.canary and split.canary.name}
    if split.shadow:
        names |= {"shadow": split.shadow.name, "copied": split.shadow_share}
    return {**names, "share": split.share, "salt": split.salt, "listed": len(split.terms.popular)}


if __name__ == "__main__":
    sys.exit(main())
