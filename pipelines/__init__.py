"""The pipelines' definitions, their specs, and the packages compiled from them."""
