"""The A/B test in a desired state: its challengers, and the layout of the shoppers."""

from __future__ import annotations

from typing import Annotated, Any, Self

from pydantic import Field, PlainSerializer, PlainValidator, model_validator

from endcap.deploy.targets import CanaryTarget, StateModel, Target
from endcap.errors import DataError
from endcap.experiments.layout import AB_ARMS, Layout
from endcap.experiments.splits import CHALLENGERS, TOTAL_WEIGHT, Arm


def _parse_layout(value: Any) -> Layout:
    if isinstance(value, Layout):
        return value
    try:
        return Layout.from_json(value)
    except DataError as error:
        raise ValueError(str(error)) from None


class AbSplit(StateModel):
    """Challengers that share the shoppers with the stable version."""

    challengers: Annotated[tuple[Target, ...], Field(min_length=1, max_length=len(CHALLENGERS))]
    """`challenger-1` is the first. A challenger keeps its place until the test ends, also once it has no shoppers."""
    layout: Annotated[
        Layout,
        PlainValidator(_parse_layout, json_schema_input_type=list[dict[str, Any]]),
        PlainSerializer(Layout.to_json, return_type=list[dict[str, Any]]),
    ]
    """Who meets which arm, of the shoppers whom the baseline does not have."""

    @property
    def arms(self) -> dict[Arm, CanaryTarget]:
        """The challengers that have shoppers, with their shares, by their arms."""
        return {
            arm: CanaryTarget(version=target.version, package=target.package, share=self.share(arm))
            for arm, target in zip(CHALLENGERS, self.challengers, strict=False)
            if self.layout.weigh(arm)
        }

    def share(self, arm: Arm) -> float:
        """Return an arm's share of the shoppers whom the baseline does not have: 0 to 1."""
        return self.layout.weigh(arm) / TOTAL_WEIGHT

    @model_validator(mode="after")
    def _check(self) -> Self:
        versions = [target.version for target in self.challengers]
        if len(set(versions)) < len(versions):
            raise ValueError("a version is a challenger twice")
        extra = set(self.layout.weights) - set(AB_ARMS[: 1 + len(versions)])
        if extra:
            raise ValueError(f"the layout has arms without a challenger: {', '.join(sorted(extra))}")
        return self
