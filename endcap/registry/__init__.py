"""Packages, and the versions made of them."""

from endcap.registry.register import describe, log_run, register
from endcap.registry.versions import Registry, Version, default_uri, open_registry

__all__ = ["Registry", "Version", "default_uri", "describe", "log_run", "open_registry", "register"]
