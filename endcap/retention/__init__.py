"""What of a store nobody needs any more: a plan that gives a reason for all that stays, and its careful removal."""

from endcap.retention.inventory import KINDS, Inventory, StoredArtifact
from endcap.retention.needs import Need, RetentionPolicy
from endcap.retention.plan import RetentionPlan, plan_retention
from endcap.retention.removal import Removal, apply_retention

__all__ = [
    "KINDS",
    "Inventory",
    "Need",
    "Removal",
    "RetentionPlan",
    "RetentionPolicy",
    "StoredArtifact",
    "apply_retention",
    "plan_retention",
]
