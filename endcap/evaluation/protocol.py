"""The protocol: all models of a verdict rank the same queries, and are measured alike."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from endcap.evaluation.candidate_counts import count_candidates
from endcap.evaluation.estimates import CHALLENGER
from endcap.evaluation.given_candidates import GivenCandidates, read_given_candidates
from endcap.evaluation.metrics import Doubles, ItemPopularity
from endcap.evaluation.model_metrics import ModelMetrics, measure_model
from endcap.evaluation.results import ModelResults
from endcap.evaluation.sampled_candidates import SampledCandidates
from endcap.evaluation.samples import SampleSessions
from endcap.evaluation.scoring import EvaluatedModel
from endcap.evaluation.timing import draw_prefixes, time_rankings
from endcap.features.dataset_files import read_customer_ids
from endcap.features.view import View
from endcap.progress import Advance
from endcap.spec.evaluation import SampledNegatives
from endcap.spec.settings import JudgeSettings

Json = dict[str, Any]
Ready = Callable[[], EvaluatedModel]
Progress = Callable[[str], None]


class EvaluationProtocol:
    """The test sessions of a view under the recommender's protocol. Models are measured one after the other."""

    def __init__(self, settings: JudgeSettings, view: View, dataset: Path) -> None:
        """Prepare the queries. `dataset` is the view's folder. Raises DataError as `read_given_candidates` does."""
        self._view, self._rules, self._seed = view, settings.evaluation, settings.seed
        size = len(view.vocabulary)
        self._popularity = ItemPopularity.of(view.training, size)
        self._first_seen = view.items["first_seen"].to_numpy()
        self._negatives: SampledCandidates | GivenCandidates | None = None
        rules = self._rules.negatives
        if isinstance(rules, SampledNegatives):
            self._negatives = SampledCandidates(view.test, view.training, size, rules, self._seed)
        elif rules is not None:
            self._negatives = read_given_candidates(rules, view.test, read_customer_ids(dataset), view.vocabulary)
        self.predictions = view.predictions("test")
        """Queries and targets, the same for each model."""
        self._timed = draw_prefixes(self.predictions, self._seed)
        self._evaluations: dict[str, ModelMetrics] = {}
        self._timings: dict[str, Doubles] = {}

    def count_candidates(self) -> Json:
        """Count how many items each target is ranked among, see `count_candidates`; empty: the whole catalogue.

        For given items also `unknown`: how many named ones were left out.
        """
        rules = self._rules.negatives
        if self._negatives is None or rules is None:
            return {}
        sizes = self._negatives.count(self.predictions)
        facts = count_candidates(sizes, rules, len(self._view.vocabulary), max(self._rules.cutoffs))
        return (
            facts if isinstance(self._negatives, SampledCandidates) else {**facts, "unknown": self._negatives.unknown}
        )

    def measure(self, name: str, competitor: EvaluatedModel) -> None:
        """Measure a model's lists, and the time that it takes."""
        cutoffs = self._rules.cutoffs
        self._evaluations[name] = measure_model(
            competitor,
            self.predictions,
            cutoffs,
            self._popularity,
            negatives=self._negatives,
            first_seen=self._first_seen,
        )
        self._timings[name] = time_rankings(competitor, self._timed, max(cutoffs))

    def measure_all(
        self, ready: Mapping[str, Ready], unfitted: Mapping[str, Ready], samples: SampleSessions, progress: Progress
    ) -> None:
        """Measure models by their names, and have each rank the sample sessions.

        Each model is made ready when its turn comes. `unfitted` models are fitted first, and come last.
        """
        predictions = f"ranking {len(self.predictions.first):,} predictions"
        whole = {**ready, **unfitted}
        for done, (name, make_ready) in enumerate(whole.items()):
            doing = predictions if name in ready else f"fitting and {predictions}"
            progress(Advance(f"{doing}: {name}", done=done, whole=len(whole)))
            competitor = make_ready()
            self.measure(name, competitor)
            samples.rank_with(name, competitor)

    def compare_results(self, own: str = CHALLENGER) -> ModelResults:
        """Put all measured models side by side; `own` is the model that the others are compared with."""
        return ModelResults.of(self._evaluations, self._timings, self._rules, self._seed, own)
