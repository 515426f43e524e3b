"""Endcap's KFP components: one module a step, whose function has the step's name."""

from __future__ import annotations

import importlib
from typing import Any


def load_component(step: str) -> Any:
    """The KFP component of a step of Endcap's table, or of the report."""
    return getattr(importlib.import_module(f"endcap_components.{step}"), step)
