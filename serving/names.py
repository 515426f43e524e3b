"""Names that the gateway, its Envoy, the predictors and the intake agree on."""

from __future__ import annotations

from endcap.experiments.splits import CHALLENGERS

SHOPPER_HEADER = "x-endcap-shopper"
"""The header that names the shopper. It decides which variant answers."""
SURFACE_HEADER = "x-endcap-surface"
"""The header that says where the ranking is shown. Only the access log reads it; a predictor reads the request's
`surface`."""
KEY_HEADER = "x-endcap-key"
"""The header with a client's key. The gateway checks it and does not pass it on."""
SCOPE_HEADER = "x-endcap-scope"
"""The header with the caller's scopes, separated by commas. Only the gateway sets it; it drops what a client sends."""
CLIENT_HEADER = "x-endcap-client"
"""The header with the caller's name, by key or token, for logs and limits. Only the gateway sets it."""
VARIANT_HEADER = "x-endcap-variant"
VERSION_HEADER = "x-endcap-version"
SPLIT_HEADER = "x-endcap-split"
"""The shares of the moment, for predictors and the list; the gateway alone sets it, and drops what a client sends."""
RANKING_HEADER = "x-endcap-ranking-id"
DEGRADED_HEADER = "x-endcap-degraded"
REQUEST_ID = "x-request-id"
VARIANTS = ("stable", "canary", "previous", "baseline", "shadow", *CHALLENGERS)
"""The variants that a predictor may be started as."""
FALLBACK = "fallback"
"""The variant and the version in an answer that no predictor gave, and the name of the list server's cluster."""
TYPE = "type.googleapis.com/envoy"
"""The beginning of the names of Envoy's types."""
ROUTES = "routes"
"""The name of Envoy's route configuration."""
MODEL_PATHS = ("POST /v1/models/NAME:predict", "POST /v2/models/NAME/infer", "GET /v1/models/NAME")
"""The paths of a model, as the answer to an unknown path lists them."""
MOST_LISTED = 20
"""How many recommenders such an answer lists. With names of 63 letters it stays far below the 4 KiB of Envoy's
bodies."""
CERTIFICATE, PRIVATE_KEY, AUTHORITY = "tls.crt", "tls.key", "ca.crt"
"""Files of a mounted Secret of the type kubernetes.io/tls."""
