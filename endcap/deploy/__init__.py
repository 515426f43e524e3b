"""What is to be served: written here, carried out by the server of the place."""

from endcap.deploy.ab_arms import begin_ab, change_layout, end_ab
from endcap.deploy.arms import give_share, promote_arm, take_back
from endcap.deploy.deploy import deploy
from endcap.deploy.dry_run import make_dry_run_store
from endcap.deploy.popularity import SwitchOutcome, switch_back, switch_to_popularity
from endcap.deploy.serving_datasets import find_served_datasets
from endcap.deploy.state import (
    AbSplit,
    CanaryTarget,
    Deployment,
    PopularitySwitch,
    ShadowTarget,
    Target,
    describe,
    find_state,
    list_deployed,
    read_state,
)
from endcap.deploy.state_changes import forget_state, set_shadow, set_shadow_share, set_share, withdraw

__all__ = [
    "AbSplit",
    "CanaryTarget",
    "Deployment",
    "PopularitySwitch",
    "ShadowTarget",
    "SwitchOutcome",
    "Target",
    "begin_ab",
    "change_layout",
    "deploy",
    "describe",
    "end_ab",
    "find_served_datasets",
    "find_state",
    "forget_state",
    "give_share",
    "list_deployed",
    "make_dry_run_store",
    "promote_arm",
    "read_state",
    "set_shadow",
    "set_shadow_share",
    "set_share",
    "switch_back",
    "switch_to_popularity",
    "take_back",
    "withdraw",
]
