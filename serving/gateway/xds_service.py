"""The xDS service: a small REST server that one Envoy asks for clusters and routes.

Envoy asks several times a second. While the API server is away, the last state stays. A service that starts meanwhile
reads the state from its file, and sends all shoppers to the stable version, because somebody may have withdrawn the
canary since. The service is the list server too (fallback.py), for requests that no predictor answers.
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
from endcap.experiments.splits import CHALLENGERS
from endcap.pseudonyms import read_pseudonymiser
from endcap_serving.gateway import fallback, last_state
from endcap_serving.gateway.access.filters import EXTENSIONS
from endcap_serving.gateway.access.settings import AccessSettings
from endcap_serving.gateway.discovery import DiscoveryResponder, Splits
from endcap_serving.gateway.envoy_tls import SDS_FOLDER
from endcap_serving.gateway.last_state import LastState
from endcap_serving.gateway.routes import GatewaySettings, Json, Split, Upstream
from endcap_serving.gateway.splits import remove_sides
from endcap_serving.http_errors import RefusedError, describe_error
from endcap_serving.json_log import make_log_fields

if TYPE_CHECKING:
    from starlette.applications import Starlette
    from starlette.requests import Request
    from starlette.responses import Response

log = logging.getLogger("endcap.xds")
_DEFAULT_SETTINGS = AccessSettings()


class XdsService:
    """Holds the splits of a namespace and answers Envoy by them.

    The watch sets the splits from its own thread (service_watch.py). Envoy's questions come from the server's thread.

    Parameters
    ----------
    state
        The file that keeps the last state; None: it is not kept.
    intake
        The service that takes events, if any.
    secrets
        The folder in which Envoy finds certificates (`clusters.build_clusters`).
    settings
        Who may do what.
    """

    def __init__(
        self,
        state: Path | None = None,
        intake: Upstream | None = None,
        secrets: Path = SDS_FOLDER,
        settings: AccessSettings = _DEFAULT_SETTINGS,
    ) -> None:
        self._file = state
        self._last = self._read_last_state()
        self.settings = settings
        in_use = self._last.in_use if self._last else ()
        self._responder = DiscoveryResponder(in_use, intake=intake, secrets=secrets, access=lambda: settings.access)
        self._set_at = time.monotonic()
        self._refused_version = ""

    @property
    def splits(self) -> Splits:
        """The splits of now, or of the last state; empty if neither is known."""
        splits = self._responder.splits
        if splits is not None:
            return splits
        return self._last.splits if self._last else {}

    def collect_settings(self) -> dict[str, GatewaySettings]:
        """Collect the recommenders' settings with their lists, by name, for when no predictor answers."""
        return {name: split.terms for name, split in self.splits.items()}

    @property
    def ready(self) -> bool:
        """Whether the service has splits to answer an Envoy by."""
        return self._responder.splits is not None

    def set_splits(self, splits: Splits) -> None:
        """Route by these splits from now on, and keep them in the file."""
        before = self._responder.splits
        if splits == before:
            return
        self._set_at = time.monotonic()
        self._responder.splits = splits
        _log_changes(before or {}, splits)
        if self._file:
            try:
                last_state.write_last_state(self._file, LastState(splits, self._responder.in_use))
            except OSError as error:
                unwritable = StorageError(str(error), code="gateway.state-unwritable", file=str(self._file))
                log.error("the last state cannot be written", extra=make_log_fields(unwritable))

    def fall_back(self, why: str) -> None:
        """Start from the last state, unless newer splits are known.

        why: the reason for the log, such as an API server that does not answer.
        """
        if self.ready:
            return
        if self._last is None:
            log.warning("there is no last state to start from; Envoy waits", extra={"why": why})
            return
        log.warning("started from the last state, with all shoppers on stable", extra={"why": why})
        self._responder.splits = {name: _send_all_to_stable(split) for name, split in self._last.splits.items()}
        _log_changes({}, self._responder.splits)

    def answer_clusters(self, version: str) -> Json | None:
        """Answer a question for clusters (`DiscoveryResponder.answer_clusters`), and log what Envoy has refused."""
        answer = self._responder.answer_clusters(version)
        if (refused := self._responder.refused_version) and refused != self._refused_version:
            error = EndcapError("Envoy's log says why", code="gateway.configuration-refused", version=refused)
            log.error("Envoy has refused clusters, routes or the settings of a filter", extra=make_log_fields(error))
        self._refused_version = refused
        return answer

    def answer_routes(self, version: str) -> Json | None:
        """Answer a question for routes (`DiscoveryResponder.answer_routes`), and log which routes Envoy has taken."""
        before = self._responder.routes_version
        answer = self._responder.answer_routes(version)
        if self._responder.routes_version not in ("", before):
            seconds = round(time.monotonic() - self._set_at, 3)
            log.info("Envoy took routes", extra={"version": self._responder.routes_version, "seconds": seconds})
        return answer

    def answer_extension(self, name: str, version: str) -> Json | None:
        """Answer a question for a filter's settings (`DiscoveryResponder.answer_extension`)."""
        return self._responder.answer_extension(name, version)

    def _read_last_state(self) -> LastState | None:
        try:
            return last_state.read_last_state(self._file) if self._file else None
        except IntegrityError as error:
            log.error("the last state is not used", extra=make_log_fields(error))
            return None


def make_xds_app(service: XdsService, is_watching: Callable[[], bool]) -> Starlette:
    """Make the HTTP application that answers Envoy.

    Parameters
    ----------
    service
        The xDS service.
    is_watching
        Whether the namespace is still watched. If not, the health check fails.

    Returns
    -------
    Starlette
        An application with the paths of Envoy's REST discovery, health checks, and the list server for all other paths.
    """
    from starlette.applications import Starlette
    from starlette.responses import JSONResponse, Response
    from starlette.routing import Mount, Route

    def refuse(error: RefusedError) -> Response:
        return JSONResponse(describe_error(error), error.status)

    def answer_extension(version: str, names: list[str]) -> Json | None:
        return service.answer_extension(names[0], version) if names and names[0] in EXTENSIONS else None

    def answer_health(_: Request) -> Response:
        return JSONResponse({"access": service.settings.describe_health()}, 200 if is_watching() else 503)

    def answer_readiness(_: Request) -> Response:
        return Response(status_code=200 if service.ready else 503)

    def make_route(kind: str, find_answer: Callable[[str, list[str]], Json | None]) -> Route:
        async def answer(request: Request) -> Response:
            # Only the pod itself may ask, wherever this listens.
            if request.client is None or request.client.host not in ("127.0.0.1", "::1"):
                return refuse(fallback.make_remote_error())
            try:
                question = json.loads(await request.body())
                version, names = question.get("version_info", ""), question.get("resource_names", [])
            except (ValueError, AttributeError):
                return refuse(
                    RefusedError(
                        400,
                        "the body is no DiscoveryRequest; allowed: a JSON object with version_info and resource_names",
                        code="gateway.discovery-body",
                    )
                )
            response = find_answer(version, names)
            return JSONResponse(response) if response else Response(status_code=304)

        return Route(f"/v3/discovery:{kind}", answer, methods=["POST"])

    # The chart sets the key where the intake stores pseudonyms.
    pseudonymiser = read_pseudonymiser()
    return Starlette(
        routes=[
            make_route("clusters", lambda version, _: service.answer_clusters(version)),
            make_route("routes", lambda version, _: service.answer_routes(version)),
            make_route("extension_configs", answer_extension),
            Route("/healthz", answer_health),
            Route("/readyz", answer_readiness),
            # All other questions of Envoy are shoppers' requests.
            Mount("/", fallback.make_list_app(service.collect_settings, lambda: pseudonymiser)),
        ]
    )


def _send_all_to_stable(split: Split) -> Split:
    """Drop all else; without a stable version the canary stays."""
    split = remove_sides(split)
    return split if split.stable is None else replace(split, canary=None, share=0.0)


def _log_changes(before: Splits, after: Splits) -> None:
    """Log each recommender whose split changed."""
    for name in sorted({*before, *after}):
        if before.get(name) != after.get(name):
            split = after.get(name)
            log.info(
                "routes changed" if split else "routes removed", extra={"recommender": name, **_describe_split(split)}
            )


def _describe_split(split: Split | None) -> Json:
    """Return the log's fields of a split."""
    if split is None:
        return {}
    names: Json = {"stable": split.stable and split.stable.name, "canary": split.canary and split.canary.name}
    for arm, upstream, share in (
        ("previous", split.previous, split.previous_share),
        ("baseline", split.baseline, split.baseline_share),
    ):
        if upstream:
            names |= {arm: upstream.name, f"{arm}_share": share}
    for arm, upstream in zip(CHALLENGERS, split.challengers, strict=False):
        if upstream and split.layout:
            names |= {arm: upstream.name, f"{arm}_weight": split.layout.weigh(arm)}
    if split.layout:
        names |= {"layout": split.layout.layout_id}
    if split.shadow:
        names |= {"shadow": split.shadow.name, "copied": split.shadow_share}
    if split.popularity_only:
        names["popularity_only"] = True
    return {**names, "share": split.share, "salt": split.salt, "listed": len(split.terms.popular)}
