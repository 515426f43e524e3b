"""Packages, and the versions made of them."""

from endcap.registry.address import REGISTRY, check_address, registry_url
from endcap.registry.figures import log_verdict
from endcap.registry.register import describe, register
from endcap.registry.versions import Registry, Version, check_registry, default_uri, find_registry, open_registry

__all__ = [
    "REGISTRY",
    "Registry",
    "Version",
    "check_address",
    "check_registry",
    "default_uri",
    "describe",
    "find_registry",
    "log_verdict",
    "open_registry",
    "register",
    "registry_url",
]
