"""Packages, and the versions made of them."""

from endcap.registry.register import describe, log_run, register
from endcap.registry.versions import Registry, Version, default_uri

__all__ = ["Registry", "Version", "default_uri", "describe", "log_run", "register"]
