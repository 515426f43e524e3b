"""Names that the gateway, its Envoy and the predictors agree on."""

from __future__ import annotations

SHOPPER_HEADER = "x-endcap-shopper"
"""Who is asked for: decides which variant answers."""
SURFACE_HEADER = "x-endcap-surface"
"""Where the ranking is shown, for the access log; the request's own `surface` is what counts."""
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
