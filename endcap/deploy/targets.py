"""The versions in a desired state, each with its package and what it gets."""

from __future__ import annotations

from typing import Annotated

from pydantic import BaseModel, ConfigDict, Field

from endcap.spec.base import Share


class StateModel(BaseModel):
    """A part of a desired state."""

    # Documents are JSON, where a time is text: not strict in types, strict in keys.
    model_config = ConfigDict(extra="forbid", frozen=True, use_attribute_docstrings=True)


class Target(StateModel):
    """A version to serve."""

    version: Annotated[str, Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]{0,62}$")]
    """Names of logs and of variants contain it."""
    package: str
    """Its package's address in the store."""


class CanaryTarget(Target):
    share: Share
    """Of the shoppers, 0 to 1."""


class ShadowTarget(Target):
    share: Share
    """Of the requests that are copied to it, 0 to 1; nobody sees its answers."""
