"""What is to be served: written here, carried out by the server of the place."""

from endcap.deploy.changes import forget_state, set_shadow, set_shadow_share, set_share, withdraw
from endcap.deploy.data import served_datasets
from endcap.deploy.deploy import deploy
from endcap.deploy.dry_run import trial_store
from endcap.deploy.state import (
    CanaryTarget,
    Deployment,
    ShadowTarget,
    Target,
    deployed_names,
    describe,
    find_state,
    read_state,
)

__all__ = [
    "CanaryTarget",
    "Deployment",
    "ShadowTarget",
    "Target",
    "deploy",
    "deployed_names",
    "describe",
    "find_state",
    "forget_state",
    "read_state",
    "served_datasets",
    "set_shadow",
    "set_shadow_share",
    "set_share",
    "trial_store",
    "withdraw",
]
