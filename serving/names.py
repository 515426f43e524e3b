"""Names that the gateway, its Envoy and the predictors agree on."""

from __future__ import annotations

SHOPPER_HEADER = "x-endcap-shopper"
"""Who is asked for: decides which variant answers."""
SURFACE_HEADER = "x-endcap-surface"
"""Where the ranking is shown, for the access log; the request's own `surface` is what counts."""
KEY_HEADER = "x-endcap-key"
"""What a client proves itself by, to the gateway; never sent on."""
SCOPE_HEADER = "x-endcap-scope"
"""What a caller may, comma-separated; the gateway alone sets it, and drops what a client sends."""
CLIENT_HEADER = "x-endcap-client"
"""Who the caller is by key or token, for logs and limits; set as the scope is."""
VARIANT_HEADER = "x-endcap-variant"
VERSION_HEADER = "x-endcap-version"
RANKING_HEADER = "x-endcap-ranking-id"
DEGRADED_HEADER = "x-endcap-degraded"
REQUEST_ID = "x-request-id"
VARIANTS = ("stable", "canary", "shadow")
"""Of a predictor."""
FALLBACK = "fallback"
"""In the place of a variant and of a version where none answers, and the name of the list server's cluster."""
TYPE = "type.googleapis.com/envoy"
"""What the names of Envoy's types begin with."""
ROUTES = "routes"
"""Envoy's name of its routes."""
MODEL_PATHS = ("POST /v1/models/NAME:predict", "POST /v2/models/NAME/infer", "GET /v1/models/NAME")
"""Where a model is asked, as the answer to an unknown path shows them."""
MOST_LISTED = 20
"""Recommenders that such an answer names: with names of 63 letters it stays far below the 4 KiB of Envoy's bodies."""
CERTIFICATE, PRIVATE_KEY, AUTHORITY = "tls.crt", "tls.key", "ca.crt"
"""Files of a mounted Secret of the type kubernetes.io/tls."""
