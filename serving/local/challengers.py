"""The challengers' predictors of an A/B test on one machine."""

from __future__ import annotations

from collections.abc import Callable, Mapping

from endcap.deploy.ab_split import AbSplit
from endcap.experiments.splits import CHALLENGERS, Arm
from endcap_serving.gateway.clusters import Upstream
from endcap_serving.local.predictors import PredictorProcess, VariantProcesses


class ChallengerProcesses:
    """The processes of all challengers of a recommender.

    Parameters
    ----------
    make_variant
        Makes the processes of an arm, by its name. It is called when the arm first has shoppers.
    """

    def __init__(self, make_variant: Callable[[str], VariantProcesses]) -> None:
        self._make_variant = make_variant
        self._variants: dict[Arm, VariantProcesses] = {}

    def reconcile(self, ab: AbSplit | None) -> list[PredictorProcess]:
        """Have predictors run for the challengers with shoppers, and no others.

        Returns the predictors that get no new requests from now on, as `VariantProcesses.reconcile` does.
        """
        targets = ab.arms if ab else {}
        for arm in targets:
            if arm not in self._variants:
                self._variants[arm] = self._make_variant(arm)
        draining = [
            predictor for arm, variant in self._variants.items() for predictor in variant.reconcile(targets.get(arm))
        ]
        self._variants = {arm: variant for arm, variant in self._variants.items() if arm in targets}
        return draining

    def find_upstreams(self, ab: AbSplit | None) -> tuple[Upstream | None, ...]:
        """Find where the challengers answer, by their numbers; None for one that does not."""
        targets = ab.arms if ab else {}
        running = self.find_running()
        ready = {
            arm: running[arm] for arm in targets if arm in running and self._variants[arm].is_serving(targets[arm])
        }
        numbers = [number for number, arm in enumerate(CHALLENGERS, 1) if arm in targets]
        return tuple(ready[arm].upstream if arm in ready else None for arm in CHALLENGERS[: max(numbers, default=0)])

    def find_running(self) -> Mapping[Arm, PredictorProcess]:
        """Find the predictors that answer, by their arms."""
        return {arm: variant.current for arm, variant in self._variants.items() if variant.current is not None}

    def are_settled(self, ab: AbSplit | None) -> bool:
        """Tell whether each challenger with shoppers answers, or has failed."""
        variants = [self._variants.get(arm) for arm in (ab.arms if ab else ())]
        return all(variant is not None and (variant.current or variant.error) for variant in variants)

    def list_predictors(self) -> list[PredictorProcess]:
        """List all predictors, also those that start."""
        both = [each for variant in self._variants.values() for each in (variant.current, variant.starting)]
        return [predictor for predictor in both if predictor is not None]
