"""The registry in MLflow: versions of packages, their states and their aliases."""

from endcap.registry.address import REGISTRY, check_address, resolve_registry_url
from endcap.registry.factory import check_registry, find_registry, get_default_uri, open_registry
from endcap.registry.register import describe_version, register
from endcap.registry.verdict_log import log_verdict
from endcap.registry.version_records import Version
from endcap.registry.versions import Registry

__all__ = [
    "REGISTRY",
    "Registry",
    "Version",
    "check_address",
    "check_registry",
    "describe_version",
    "find_registry",
    "get_default_uri",
    "log_verdict",
    "open_registry",
    "register",
    "resolve_registry_url",
]
