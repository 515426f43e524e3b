"""Forgets customers of a shop: each place that holds shoppers, new data without them, and the removal of the old."""

from endcap.forgetting.forget import Forgetting, forget_customers, plan_forgetting
from endcap.forgetting.places import ARTIFACTS, DOCUMENTS, ELSEWHERE, INTAKE, ONLINE
from endcap.forgetting.services import Services
from endcap.forgetting.stored_artifacts import HoldingArtifact

__all__ = [
    "ARTIFACTS",
    "DOCUMENTS",
    "ELSEWHERE",
    "INTAKE",
    "ONLINE",
    "Forgetting",
    "HoldingArtifact",
    "Services",
    "forget_customers",
    "plan_forgetting",
]
