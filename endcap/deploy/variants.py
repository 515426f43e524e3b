"""The annotations of an InferenceService that tell the gateway which variants there are and where they answer.

The deployer writes them, and the gateway reads them, so that it needs to watch InferenceServices only. KServe copies an
InferenceService's annotations to its pods, where each change would start new pods. So the annotations that change are
set to a constant on the predictor, whose own annotations win (`MASK`).
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal
from urllib.parse import urlsplit

from endcap.deploy.gateway_settings import DEFAULT_SETTINGS, LONGEST, GatewaySettings
from endcap.errors import DataError
from endcap.experiments.layout import Layout
from endcap.experiments.splits import CHALLENGERS, Challenger

PREFIX = "endcap.dev/"
SALT = PREFIX + "salt"
STABLE = PREFIX + "stable-version"
CANARY = PREFIX + "canary-version"
SHARE = PREFIX + "canary-share"
STABLE_TAG = PREFIX + "stable-tag"
"""Knative: the tag of the stable version's revision, `latest` or `prev`."""
REPLACES = PREFIX + "replaces-revision"
"""Knative: the newest revision before the template last changed. The template's own revision is newer."""
REVISION = PREFIX + "stable-revision"
"""Knative: the stable version's revision while a newer revision exists."""
TIMEOUT = PREFIX + "timeout"
"""Seconds that a request may take."""
POPULAR = PREFIX + "popular"
"""JSON with `k` (the number of items if a request names none), `items` (the list for when no variant answers) and the
items that rules forbid, as in `GatewaySettings`: `listed`, `closed`, `never`."""
POPULARITY_ONLY = PREFIX + "popularity-only"
"""The kill switch: since when popularity answers everyone, as a time; any other word also throws it. `OFF` or empty: it
is not thrown."""
OFF = "false"
WITHDRAWN = PREFIX + "withdrawn-version"
"""The stable version that was taken back last. While the InferenceService still serves it, gateways lead its shoppers
to the previous version, or to popularity."""
LAYOUT = PREFIX + "ab-layout"
"""JSON of an A/B test's layout (`Layout.to_json`): who meets which of its arms; empty: there is no test."""
SideRole = Literal["shadow", "previous", "baseline", Challenger]
SIDE_ROLES: tuple[SideRole, ...] = ("shadow", "previous", "baseline", *CHALLENGERS)
"""What has an InferenceService of its own beside the recommender's, by the names in the desired state. A shadow gets
copies of requests; the others are arms, whom a share of the shoppers meets."""
VERSION = PREFIX + "version"
"""On a predictor and its pods: the registered version that it serves."""
TLS = PREFIX + "tls"
"""On a predictor: `tls` or `mtls` if the gateway connects by TLS; absent: it connects without TLS."""
TLS_PORT = 8443
"""The TLS port of a predictor and of its Service."""
MODE = "serving.kserve.io/deploymentMode"
STATE_MARKS = (SALT, POPULARITY_ONLY, WITHDRAWN, LAYOUT, TIMEOUT, POPULAR)
"""The annotations that say what the desired state says, whichever transition is under way."""
_CHANGING = (*STATE_MARKS, STABLE, CANARY, SHARE, STABLE_TAG, REPLACES, REVISION)
MASK = dict.fromkeys(_CHANGING, "see-the-inferenceservice")
_RULE_KEYS = ("listed", "closed", "never")
MANAGER = "endcap"
MANAGED_BY = "app.kubernetes.io/managed-by"
NAME = "app.kubernetes.io/name"
PART_OF = "app.kubernetes.io/part-of"
SELECTOR = f"{MANAGED_BY}={MANAGER}"
"""Label selector of everything that Endcap makes."""

Mode = Literal["Knative", "Standard"]
Json = Mapping[str, Any]


def make_labels(recommender: str) -> dict[str, str]:
    """Make the labels of every object of a recommender."""
    return {NAME: recommender, MANAGED_BY: MANAGER, PART_OF: "endcap"}


@dataclass(frozen=True)
class Address:
    """Where the gateway connects to.

    Attributes
    ----------
    host, port
        The Service's DNS name and port.
    authority
        The Host header that the gateway sends.
    tls
        Connect by TLS. The certificate must be for `host`.
    """

    host: str
    port: int
    authority: str
    tls: bool = False


@dataclass(frozen=True)
class Variant:
    """One registered version that serves, and its address.

    Attributes
    ----------
    version
        The registered version.
    address
        Where the gateway reaches it.
    ready
        It has passed its readiness probe. A variant that is not ready gets no requests.
    """

    version: str
    address: Address
    ready: bool


@dataclass(frozen=True)
class Variants:
    """The variants of one recommender.

    Attributes
    ----------
    recommender, namespace
        The InferenceService's name and namespace.
    salt
        Goes into the hash of the shopper's id.
    share
        The canary's share of the shoppers, 0 to 1; 0 without a canary.
    stable
        None if it has no address of its own: before the first pod is ready, or in Knative mode if the canary has all
        traffic. Then the canary answers everyone.
    canary
        None without a canary.
    terms
        The gateway's settings for this recommender.
    popularity_only
        Popularity is to answer everyone in place of the variants.
    withdrawn
        A version that is to answer nobody, if another one can; empty: none.
    layout
        Of an A/B test; None: there is none.
    """

    recommender: str
    namespace: str
    salt: str
    share: float
    stable: Variant | None
    canary: Variant | None
    terms: GatewaySettings = DEFAULT_SETTINGS
    popularity_only: bool = False
    withdrawn: str = ""
    layout: Layout | None = None


@dataclass(frozen=True)
class SideVariant:
    """A version beside those of the recommender's InferenceService. It has one of its own.

    Attributes
    ----------
    role
        What it is there for.
    recommender
        The recommender that it belongs to.
    share
        A shadow's share of the requests, or an arm's of the shoppers: 0 to 1.
    variant
        The version and its address.
    """

    role: SideRole
    recommender: str
    share: float
    variant: Variant


def read_variants(service: Json) -> Variants | None:
    """Read the variants from an InferenceService.

    Parameters
    ----------
    service
        The object, as the API server returns it.

    Returns
    -------
    Variants or None
        None if Endcap did not make the object, or if it is a shadow or an arm beside the recommender's own.

    Notes
    -----
    The function never raises for annotations that someone edited by hand: a share that is no number counts as 0, and
    other settings fall back to `DEFAULT_SETTINGS`.
    """
    metadata = service["metadata"]
    annotations = metadata.get("annotations") or {}
    if (metadata.get("labels") or {}).get(MANAGED_BY) != MANAGER or not annotations.get(STABLE):
        return None
    read = _read_knative_variants if read_mode(service) == "Knative" else _read_standard_variants
    stable, canary = read(service)
    share = read_share(annotations) if canary is not None else 0.0
    name, namespace = metadata["name"], metadata["namespace"]
    return Variants(
        name,
        namespace,
        annotations.get(SALT, ""),
        share,
        stable,
        canary,
        settings_from_annotations(annotations),
        is_popularity_only(annotations),
        annotations.get(WITHDRAWN, ""),
        read_layout(annotations),
    )


def read_side_variant(service: Json) -> SideVariant | None:
    """Read a shadow, or an arm with an InferenceService of its own.

    Parameters
    ----------
    service
        The object, as the API server returns it.

    Returns
    -------
    SideVariant or None
        None if the object is neither, or Endcap did not make it.
    """
    metadata = service["metadata"]
    annotations = metadata.get("annotations") or {}
    role = next((role for role in SIDE_ROLES if annotations.get(name_owner_mark(role))), None)
    if (metadata.get("labels") or {}).get(MANAGED_BY) != MANAGER or role is None:
        return None
    predictor = service["spec"]["predictor"]
    version = str((predictor.get("annotations") or {}).get(VERSION, ""))
    if read_mode(service) == "Knative":
        variant = _make_tagged_variant(service, "latest", version, "latest" in find_tagged_traffic(service))
    else:
        variant = _make_named_variant(service, predictor, version, _is_predictor_ready(service))
    return SideVariant(
        role, annotations[name_owner_mark(role)], read_share(annotations, name_share_mark(role)), variant
    )


def is_popularity_only(annotations: Json) -> bool:
    """Tell whether an InferenceService's annotations throw the kill switch."""
    return str(annotations.get(POPULARITY_ONLY, "")).strip().lower() not in ("", OFF)


def read_layout(annotations: Json) -> Layout | None:
    """Read an A/B test's layout from annotations; None without one, and if it is damaged: everyone meets stable."""
    try:
        return Layout.from_json(json.loads(annotations.get(LAYOUT) or "null"))
    except (ValueError, DataError):
        return None


def name_owner_mark(role: SideRole) -> str:
    """Name the annotation that says whose shadow or arm an InferenceService is."""
    return f"{PREFIX}{role}-of"


def name_share_mark(role: SideRole) -> str:
    """Name the annotation that says which share a shadow or an arm gets, 0 to 1."""
    return f"{PREFIX}{role}-share"


def make_side_mask(role: SideRole) -> dict[str, str]:
    """Make the mask of a side's predictor. A longer mask is another template, so other predictors do not have it."""
    return {**MASK, name_share_mark(role): "see-the-inferenceservice"}


def uses_tls(predictor: Json) -> bool:
    """Tell whether the gateway connects to this predictor by TLS."""
    return bool((predictor.get("annotations") or {}).get(TLS))


def read_mode(service: Json) -> Mode:
    """Read the mode that an InferenceService runs in, under KServe's present name for it."""
    annotation = (service["metadata"].get("annotations") or {}).get(MODE, "")
    word = (service.get("status") or {}).get("deploymentMode") or annotation
    return "Standard" if word in ("Standard", "RawDeployment") else "Knative"


def name_predictor_service(recommender: str, predictor: str | None) -> str:
    """Name a predictor's Service, and its Deployment or Knative Service, as KServe does."""
    return f"{recommender}-{predictor}-predictor" if predictor else f"{recommender}-predictor"


def find_condition(service: Json, kind: str) -> dict[str, Any]:
    """Find one of the InferenceService's conditions; empty if KServe has not set it yet."""
    conditions = (service.get("status") or {}).get("conditions") or []
    return next((item for item in conditions if item.get("type") == kind), {})


def find_tagged_traffic(service: Json) -> dict[str, dict[str, Any]]:
    """Knative mode: find the Route's traffic targets by their tags, as KServe reports them."""
    traffic = _predictor_status(service).get("traffic") or []
    return {target["tag"]: target for target in traffic if target.get("tag")}


def is_template_ready(service: Json) -> bool:
    """Knative mode: whether the newest template's revision is ready."""
    status = _predictor_status(service)
    replaced = (service["metadata"].get("annotations") or {}).get(REPLACES, "")
    newest = status.get("latestCreatedRevision", "")
    return newest not in ("", replaced) and status.get("latestReadyRevision") == newest


def _read_knative_variants(service: Json) -> tuple[Variant | None, Variant | None]:
    annotations, traffic = service["metadata"]["annotations"], find_tagged_traffic(service)
    canary = None
    if annotations.get(CANARY) and "latest" in traffic:
        canary = _make_tagged_variant(service, "latest", annotations[CANARY], is_template_ready(service))
    # Until the newest template is ready, `latest` is the revision before it. A revision is in the Route's traffic only
    # once it was ready.
    fallback_tags = () if canary and canary.ready else ("latest", "prev")
    tags = [annotations.get(STABLE_TAG, "latest"), *fallback_tags]
    stable = next(
        (_make_tagged_variant(service, tag, annotations[STABLE], True) for tag in tags if tag in traffic), None
    )
    return stable, canary


def _make_tagged_variant(service: Json, tag: str, version: str, ready: bool) -> Variant:
    metadata = service["metadata"]
    host = f"{tag}-{name_predictor_service(metadata['name'], None)}.{metadata['namespace']}.svc"
    return Variant(version, Address(host, 80, host), ready)


def _read_standard_variants(service: Json) -> tuple[Variant | None, Variant | None]:
    annotations, spec = service["metadata"]["annotations"], service["spec"]
    stable = _make_named_variant(service, spec["predictor"], annotations[STABLE], _is_predictor_ready(service))
    canaries = spec.get("canary") or []
    if not canaries or not annotations.get(CANARY):
        return stable, None
    predictor = canaries[0]["predictor"]
    return stable, _make_named_variant(
        service, predictor, annotations[CANARY], is_canary_ready(service, predictor.get("name", ""))
    )


def _make_named_variant(service: Json, predictor: Json, version: str, ready: bool) -> Variant:
    metadata = service["metadata"]
    # For headless Services KServe reports a port: their name resolves to the pods.
    url = ((service.get("status") or {}).get("address") or {}).get("url") or ""
    host = f"{name_predictor_service(metadata['name'], predictor.get('name'))}.{metadata['namespace']}.svc"
    tls = uses_tls(predictor)
    return Variant(version, Address(host, TLS_PORT if tls else urlsplit(url).port or 80, host, tls), ready)


def _is_predictor_ready(service: Json) -> bool:
    return bool(find_condition(service, "PredictorReady").get("status") == "True")


def is_canary_ready(service: Json, predictor: str) -> bool:
    """Standard mode: whether the canary of this name has an available pod."""
    statuses = (service.get("status") or {}).get("canaryStatuses") or []
    return any(status.get("name") == predictor and status.get("ready") for status in statuses)


def _predictor_status(service: Json) -> dict[str, Any]:
    components = (service.get("status") or {}).get("components") or {}
    return components.get("predictor") or {}


def read_share(annotations: Json, key: str = SHARE) -> float:
    """Read the canary's share from annotations, or a side's (`name_share_mark`)."""
    try:
        share = float(annotations.get(key, 0))
    except ValueError:
        return 0.0  # Someone edited the annotation. A variant with an unreadable share gets no traffic.
    return share if 0 <= share <= 1 else 0.0


def settings_to_annotations(settings: GatewaySettings) -> dict[str, str]:
    """Make the annotations that hold these settings. Without a list its annotation is empty, so that no other stays."""
    annotations = {TIMEOUT: f"{settings.timeout:g}", POPULAR: ""}
    if settings.offers_list:
        document: dict[str, Any] = {"k": settings.k, "items": settings.popular}
        stored = settings.to_json()
        document |= {name: stored[name] for name in _RULE_KEYS if stored[name]}
        annotations[POPULAR] = json.dumps(document, ensure_ascii=False, separators=(",", ":"))
    return annotations


def settings_from_annotations(annotations: Json) -> GatewaySettings:
    """Read the settings from annotations. Settings that cannot be read fall back to DEFAULT_SETTINGS."""
    try:
        timeout = float(annotations.get(TIMEOUT, DEFAULT_SETTINGS.timeout))
    except ValueError:
        timeout = DEFAULT_SETTINGS.timeout
    timeout = min(timeout, LONGEST) if timeout > 0 else DEFAULT_SETTINGS.timeout
    try:
        listed = json.loads(annotations.get(POPULAR) or "{}")
        k, items = int(listed.get("k", DEFAULT_SETTINGS.k)), tuple(map(str, listed.get("items", ())))
        rules = {name: listed[name] for name in _RULE_KEYS if name in listed}
        return GatewaySettings.from_json({"timeout": timeout, "k": max(1, k), "popular": items, **rules})
    except (ValueError, TypeError, AttributeError):
        # Without the rules the list could offer forbidden items, so there is no list.
        return GatewaySettings(timeout)
