"""Compares the rules that held in a predictor with the newest ones that had been read by then."""

from __future__ import annotations

from collections.abc import Iterable

from endcap.replay.comparison import compare_answers
from endcap.replay.past_rankers import MissingPastError, PastRankers
from endcap.replay.reasons import EQUAL, REFRESHED_RULE, ROUNDING
from endcap.replay.recomputation import Question, describe_difference, rank_as_then
from endcap.samples import SampledRequest


class RulesCheck:
    """Finds answers that newer rules would have changed: a predictor takes new rules up after some seconds.

    Parameters
    ----------
    rankers
        The rankers of then.
    catalogues
        The versions of the catalogues that any sampled answer used.
    """

    def __init__(self, rankers: PastRankers, catalogues: Iterable[str]) -> None:
        self._rankers = rankers
        self._read_times: dict[str, int] = {"": 0}
        for version in catalogues:
            if version:
                try:
                    self._read_times[version] = rankers.get_catalogue(version).read_time
                except MissingPastError:
                    continue

    def compare(self, sample: SampledRequest, question: Question) -> tuple[str, str]:
        """Return the outcome, and what differs in a few words."""
        newest = max(
            (version for version, read_time in self._read_times.items() if read_time <= sample.time),
            key=self._read_times.__getitem__,
        )
        own = self._read_times.get(sample.catalogue)
        if own is None or self._read_times[newest] <= own:
            return EQUAL, ""
        try:
            ranker = self._rankers.get_ranker(sample.version, newest)
        except MissingPastError as missing:
            return missing.reason, missing.detail
        answer = rank_as_then(ranker, sample, question)
        if compare_answers(sample, answer) in (EQUAL, ROUNDING):
            return EQUAL, ""
        return (
            REFRESHED_RULE,
            f"catalogue {sample.catalogue or 'none'} → {newest}: {describe_difference(sample, answer)}",
        )
