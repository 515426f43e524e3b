"""A step of one's own that prepares what a model sees."""

from __future__ import annotations

from typing import Any

from pydantic import ConfigDict, Field

from endcap.spec.base import Strict
from endcap.spec.model import ClassPath


class PreprocessorSpec(Strict):
    """A preprocessor of your own, by its import path; it must be on the recommender's list `classes`."""

    model_config = ConfigDict(serialize_by_alias=True)

    path: ClassPath = Field(alias="class")
    parameters: dict[str, Any] = {}
