"""Packages, and the versions made of them."""

from endcap.registry.register import describe, log_run, register
from endcap.registry.versions import Registry, Version, default_uri, find_registry, open_registry

__all__ = ["Registry", "Version", "default_uri", "describe", "find_registry", "log_run", "open_registry", "register"]
