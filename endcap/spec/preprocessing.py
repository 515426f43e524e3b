"""Preprocessors of the user's own, which prepare the sessions that a model sees."""

from __future__ import annotations

from typing import Any

from pydantic import ConfigDict, Field

from endcap.spec.base import Strict
from endcap.spec.model import ClassPath


class PreprocessorSpec(Strict):
    """Your own preprocessor. The recommender's list `classes` must name its class."""

    model_config = ConfigDict(serialize_by_alias=True)

    path: ClassPath = Field(alias="class")
    """The import path of the class, such as acme.cleaning:DropBots."""
    parameters: dict[str, Any] = {}
    """The parameters of the class."""
