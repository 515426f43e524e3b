"""What one Envoy is told, and the small REST server that tells it.

Envoy asks several times a second for clusters and routes. While the API server is away the last state stays. A service
that starts meanwhile takes the state from its file, with all shoppers on the stable version, because a canary may have
been withdrawn since. The service is the list server too (fallback.py), for requests that no predictor answers.
"""

from __future__ import annotations

import json
import logging
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from endcap.errors import EndcapError, IntegrityError, StorageError
from endcap_serving.gateway import fallback, last_state
from endcap_serving.gateway.access.filters import EXTENSIONS
from endcap_serving.gateway.access.settings import AccessSettings
from endcap_serving.gateway.discovery import DiscoveryResponder, Splits
from endcap_serving.gateway.envoy_tls import PLACE
from endcap_serving.gateway.last_state import LastState
from endcap_serving.gateway.routes import GatewaySettings, Json, Split, Upstream
from endcap_serving.gateway.splits import remove_shadow
from endcap_serving.http_errors import RefusedError, describe_error
from endcap_serving.json_log import log_fields_of

if TYPE_CHECKING:
    from starlette.applications import Starlette
    from starlette.requests import Request
    from starlette.responses import Response

log = logging.getLogger("endcap.xds")
_USUAL_SETTINGS = AccessSettings()


class XdsService:
    """What the watch tells (from its own thread) and Envoy asks (from the server's)."""

    def __init__(
        self,
        state: Path | None = None,
        intake: Upstream | None = None,
        secrets: Path = PLACE,
        settings: AccessSettings = _USUAL_SETTINGS,
    ) -> None:
        """settings: of access."""
        self._file = state
        self._last = self._read()
        self.settings = settings
        in_use = self._last.in_use if self._last else ()
        self._announcer = DiscoveryResponder(in_use, intake=intake, secrets=secrets, access=lambda: settings.access)
        self._told_at = time.monotonic()
        self._refused = ""

    @property
    def splits(self) -> Splits:
        """What is routed now, or was last; empty where nothing is known."""
        known = self._announcer.splits
        if known is not None:
            return known
        return self._last.splits if self._last else {}

    def lists(self) -> dict[str, GatewaySettings]:
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
                last_state.write_last_state(self._file, LastState(splits, self._announcer.in_use))
            except OSError as error:
                own = StorageError(str(error), code="gateway.state-unwritable", file=str(self._file))
                log.error("the state cannot be kept", extra=log_fields_of(own))

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
            log.error("Envoy has not taken clusters or routes", extra=log_fields_of(own))
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
            return last_state.read_last_state(self._file) if self._file else None
        except IntegrityError as error:
            log.error("the last state is not used", extra=log_fields_of(error))
            return None


def make_xds_app(service: XdsService, alive: Callable[[], bool]) -> Starlette:
    """The service over HTTP, as Envoy's REST protocol has it. `alive`: whether the namespace is still watched."""
    from starlette.applications import Starlette
    from starlette.responses import JSONResponse, Response
    from starlette.routing import Mount, Route

    def refused(error: RefusedError) -> Response:
        return JSONResponse(describe_error(error), error.status)

    def extension(version: str, names: list[str]) -> Json | None:
        return service.extension(names[0], version) if names and names[0] in EXTENSIONS else None

    def health(_: Request) -> Response:
        return JSONResponse({"access": service.settings.health()}, 200 if alive() else 503)

    def discovery(kind: str, ask: Callable[[str, list[str]], Json | None]) -> Route:
        async def answer(request: Request) -> Response:
            # Open to the pod alone, wherever this listens.
            if request.client is None or request.client.host not in ("127.0.0.1", "::1"):
                return refused(fallback.refuse_remote())
            try:
                question = json.loads(await request.body())
                version, names = question.get("version_info", ""), question.get("resource_names", [])
            except (ValueError, AttributeError):
                return refused(RefusedError(400, "the body is not a DiscoveryRequest", code="gateway.discovery-body"))
            response = ask(version, names)
            return JSONResponse(response) if response else Response(status_code=304)

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
            Mount("/", fallback.make_list_app(service.lists)),
        ]
    )


def _all_on_stable(split: Split) -> Split:
    split = remove_shadow(split)
    return split if split.stable is None else replace(split, canary=None, share=0.0)


def _log_changes(before: Splits, after: Splits) -> None:
    for name in sorted({*before, *after}):
        if before.get(name) != after.get(name):
            split = after.get(name)
            log.info(
                "routed anew" if split else "routed no more", extra={"recommender": name, **_describe_split(split)}
            )


def _describe_split(split: Split | None) -> Json:
    if split is None:
        return {}
    names = {"stable": split.stable and split.stable.name, "canary": split.canary and split.canary.name}
    if split.shadow:
        names |= {"shadow": split.shadow.name, "copied": split.shadow_share}
    return {**names, "share": split.share, "salt": split.salt, "listed": len(split.terms.popular)}
