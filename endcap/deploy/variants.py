"""What an InferenceService of Endcap's says of its variants: who gets which, and where each is reached.

The deployer writes it as annotations; the gateway reads it back, so that it needs to watch InferenceServices only.
KServe copies an InferenceService's annotations to its pods, where each change would start new ones. So the ones that
change are set to a constant on the predictor, whose own win (`MASK`).
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal
from urllib.parse import urlsplit

from endcap.deploy.gateway_settings import LONGEST, USUAL, Terms

PREFIX = "endcap.dev/"
SALT = PREFIX + "salt"
STABLE = PREFIX + "stable-version"
CANARY = PREFIX + "canary-version"
SHARE = PREFIX + "canary-share"
STABLE_TAG = PREFIX + "stable-tag"
"""Knative: the tag of the stable version's revision, `latest` or `prev`."""
REPLACES = PREFIX + "replaces-revision"
"""Knative: the newest revision when the template last changed; the template's own is a newer one."""
REVISION = PREFIX + "stable-revision"
"""Knative: the stable version's revision, while a newer one is beside it."""
TIMEOUT = PREFIX + "timeout"
"""Seconds that a request may take."""
POPULAR = PREFIX + "popular"
"""JSON: `k`, the items in an answer that asks for no number, and `items`, the list for when no variant answers; and
what rules forbid, as of `Terms`: `listed`, `closed`, `never`."""
SHADOW_OF = PREFIX + "shadow-of"
"""Of a shadow's InferenceService: the recommender whose requests it gets copies of."""
SHADOW_SHARE = PREFIX + "shadow-share"
"""Of a shadow's InferenceService: the share of those requests."""
VERSION = PREFIX + "version"
"""Of a predictor, on its pods: the registered version that it serves."""
TLS = PREFIX + "tls"
"""Of a predictor: `tls` or `mtls` where the gateway speaks TLS with it; left out: it does not."""
TLS_PORT = 8443
"""Of a predictor that speaks TLS, and of its Service."""
MODE = "serving.kserve.io/deploymentMode"
_CHANGING = (SALT, STABLE, CANARY, SHARE, STABLE_TAG, REPLACES, REVISION, TIMEOUT, POPULAR)
MASK = dict.fromkeys(_CHANGING, "see-the-inferenceservice")
SHADOW_MASK = {**MASK, SHADOW_SHARE: "see-the-inferenceservice"}
"""Of a shadow's predictor. Not of others: a longer mask is another template, which would start their pods anew."""

_OF_RULES = ("listed", "closed", "never")
MANAGER = "endcap"
MANAGED_BY = "app.kubernetes.io/managed-by"
NAME = "app.kubernetes.io/name"
PART_OF = "app.kubernetes.io/part-of"
SELECTOR = f"{MANAGED_BY}={MANAGER}"
"""Label selector of everything that Endcap makes."""

Mode = Literal["Knative", "Standard"]
Json = Mapping[str, Any]


def labels(recommender: str) -> dict[str, str]:
    """The labels of everything that is made for a recommender."""
    return {NAME: recommender, MANAGED_BY: MANAGER, PART_OF: "endcap"}


@dataclass(frozen=True)
class Address:
    """Where to connect to, and which Host header to send."""

    host: str
    port: int
    authority: str
    tls: bool = False
    """Spoken to by TLS; its certificate is for `host`."""


@dataclass(frozen=True)
class Variant:
    version: str
    address: Address
    ready: bool
    """Has answered its readiness probe; not ready: it shall not get requests."""


@dataclass(frozen=True)
class Variants:
    """Of one recommender."""

    recommender: str
    namespace: str
    salt: str
    share: float
    """Of the shoppers that the canary gets, 0 to 1; 0 without a canary."""
    stable: Variant | None
    """None: not reached by itself. Before the first pod is ready, or at Knative with a canary that has everything:
    then the canary answers everyone."""
    canary: Variant | None
    terms: Terms = USUAL


@dataclass(frozen=True)
class Shadow:
    """Gets copies of a recommender's requests, and has an InferenceService of its own."""

    recommender: str
    share: float
    """Of the requests, 0 to 1."""
    variant: Variant


def read_variants(service: Json) -> Variants | None:
    """The variants of an InferenceService (as the API server gives it); None where it is not Endcap's."""
    metadata = service["metadata"]
    said = metadata.get("annotations") or {}
    if (metadata.get("labels") or {}).get(MANAGED_BY) != MANAGER or not said.get(STABLE):
        return None
    of_mode = _at_knative if mode_of(service) == "Knative" else _at_standard
    stable, canary = of_mode(service)
    share = share_of(said) if canary is not None else 0.0
    name, namespace = metadata["name"], metadata["namespace"]
    return Variants(name, namespace, said.get(SALT, ""), share, stable, canary, terms_said(said))


def read_shadow(service: Json) -> Shadow | None:
    """The shadow that an InferenceService is; None where it is none of Endcap's."""
    metadata = service["metadata"]
    said = metadata.get("annotations") or {}
    if (metadata.get("labels") or {}).get(MANAGED_BY) != MANAGER or not said.get(SHADOW_OF):
        return None
    predictor = service["spec"]["predictor"]
    version = str((predictor.get("annotations") or {}).get(VERSION, ""))
    if mode_of(service) == "Knative":
        variant = _tagged(service, "latest", version, "latest" in knative_traffic(service))
    else:
        variant = _named(service, predictor, version, _predictor_is_ready(service))
    return Shadow(said[SHADOW_OF], share_of(said, SHADOW_SHARE), variant)


def speaks_tls(predictor: Json) -> bool:
    """Whether the gateway is to speak TLS with a predictor of an InferenceService."""
    return bool((predictor.get("annotations") or {}).get(TLS))


def mode_of(service: Json) -> Mode:
    """The mode an InferenceService runs in, by KServe's present words."""
    said = (service["metadata"].get("annotations") or {}).get(MODE, "")
    word = (service.get("status") or {}).get("deploymentMode") or said
    return "Standard" if word in ("Standard", "RawDeployment") else "Knative"


def predictor_service(recommender: str, predictor: str | None) -> str:
    """KServe's name of a predictor's Service, and of its Deployment or Knative Service."""
    return f"{recommender}-{predictor}-predictor" if predictor else f"{recommender}-predictor"


def condition(service: Json, kind: str) -> dict[str, Any]:
    """One of its conditions, empty where it is not set yet."""
    conditions = (service.get("status") or {}).get("conditions") or []
    return next((one for one in conditions if one.get("type") == kind), {})


def knative_traffic(service: Json) -> dict[str, dict[str, Any]]:
    """Knative: the targets of the Route by their tags, as KServe reports them."""
    traffic = _predictor_status(service).get("traffic") or []
    return {target["tag"]: target for target in traffic if target.get("tag")}


def template_is_ready(service: Json) -> bool:
    """Knative: whether the newest template's revision is ready."""
    status = _predictor_status(service)
    replaced = (service["metadata"].get("annotations") or {}).get(REPLACES, "")
    newest = status.get("latestCreatedRevision", "")
    return newest not in ("", replaced) and status.get("latestReadyRevision") == newest


def _at_knative(service: Json) -> tuple[Variant | None, Variant | None]:
    said, traffic = service["metadata"]["annotations"], knative_traffic(service)
    canary = None
    if said.get(CANARY) and "latest" in traffic:
        canary = _tagged(service, "latest", said[CANARY], template_is_ready(service))
    # Until the newest template is ready, `latest` is the revision before it. A revision is in the Route's traffic only
    # once it was ready.
    others = () if canary and canary.ready else ("latest", "prev")
    tags = [said.get(STABLE_TAG, "latest"), *others]
    stable = next((_tagged(service, tag, said[STABLE], True) for tag in tags if tag in traffic), None)
    return stable, canary


def _tagged(service: Json, tag: str, version: str, ready: bool) -> Variant:
    metadata = service["metadata"]
    host = f"{tag}-{predictor_service(metadata['name'], None)}.{metadata['namespace']}.svc"
    return Variant(version, Address(host, 80, host), ready)


def _at_standard(service: Json) -> tuple[Variant | None, Variant | None]:
    said, spec = service["metadata"]["annotations"], service["spec"]
    stable = _named(service, spec["predictor"], said[STABLE], _predictor_is_ready(service))
    canaries = spec.get("canary") or []
    if not canaries or not said.get(CANARY):
        return stable, None
    predictor = canaries[0]["predictor"]
    return stable, _named(service, predictor, said[CANARY], canary_is_ready(service, predictor.get("name", "")))


def _named(service: Json, predictor: Json, version: str, ready: bool) -> Variant:
    metadata = service["metadata"]
    # KServe says a port where the Services have no address of their own: then a name resolves to the pods.
    url = ((service.get("status") or {}).get("address") or {}).get("url") or ""
    host = f"{predictor_service(metadata['name'], predictor.get('name'))}.{metadata['namespace']}.svc"
    tls = speaks_tls(predictor)
    return Variant(version, Address(host, TLS_PORT if tls else urlsplit(url).port or 80, host, tls), ready)


def _predictor_is_ready(service: Json) -> bool:
    return bool(condition(service, "PredictorReady").get("status") == "True")


def canary_is_ready(service: Json, predictor: str) -> bool:
    """Standard: whether the canary of this name has a pod that is available."""
    statuses = (service.get("status") or {}).get("canaryStatuses") or []
    return any(one.get("name") == predictor and one.get("ready") for one in statuses)


def _predictor_status(service: Json) -> dict[str, Any]:
    components = (service.get("status") or {}).get("components") or {}
    return components.get("predictor") or {}


def share_of(said: Json, key: str = SHARE) -> float:
    """The share that annotations say: the canary's, or the shadow's (`SHADOW_SHARE`)."""
    try:
        share = float(said.get(key, 0))
    except ValueError:
        return 0.0  # Someone wrote there: who cannot be read gets nothing.
    return share if 0 <= share <= 1 else 0.0


def say_terms(terms: Terms) -> dict[str, str]:
    """The annotations of these terms."""
    said = {TIMEOUT: f"{terms.timeout:g}"}
    if terms.offers_list:
        document: dict[str, Any] = {"k": terms.k, "items": terms.popular}
        more = terms.to_json()
        document |= {name: more[name] for name in _OF_RULES if more[name]}
        said[POPULAR] = json.dumps(document, ensure_ascii=False, separators=(",", ":"))
    return said


def terms_said(said: Json) -> Terms:
    """The terms that annotations say; what cannot be read is as USUAL."""
    try:
        timeout = float(said.get(TIMEOUT, USUAL.timeout))
    except ValueError:
        timeout = USUAL.timeout
    timeout = min(timeout, LONGEST) if timeout > 0 else USUAL.timeout
    try:
        listed = json.loads(said.get(POPULAR) or "{}")
        k, items = int(listed.get("k", USUAL.k)), tuple(map(str, listed.get("items", ())))
        ruled = {name: listed[name] for name in _OF_RULES if name in listed}
        return Terms.from_json({"timeout": timeout, "k": max(1, k), "popular": items, **ruled})
    except (ValueError, TypeError, AttributeError):
        # Without what rules say there must be no list.
        return Terms(timeout)
