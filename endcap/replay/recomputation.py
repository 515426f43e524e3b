"""Computes sampled answers again, with the model and the rules of then and the context as it was recorded."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Iterator, Sequence
from itertools import islice
from typing import NamedTuple

from endcap.ranking import Answer, Ranker, RankRequest, ShopperContext
from endcap.replay.comparison import compare_answers
from endcap.replay.past_rankers import MissingPastError, PastRankers
from endcap.replay.reasons import EQUAL
from endcap.samples import SampledRequest

AT_ONCE = 4096
"""Samples that are looked at together."""
BATCH = 128
"""Requests in one batch, as in a predictor."""


class Question(NamedTuple):
    """What a ranker is asked again: the request, its context, and the moment in epoch milliseconds."""

    request: RankRequest
    context: ShopperContext
    time: int


class Recomputed(NamedTuple):
    """A sample whose answer was computed again.

    Attributes
    ----------
    sample
        The sample.
    outcome
        A name of `endcap.replay.reasons`.
    detail
        What is missing or differs, in a few words.
    question
        What was asked again; None if it could not be.
    """

    sample: SampledRequest
    outcome: str
    detail: str = ""
    question: Question | None = None


def recompute(samples: Iterable[SampledRequest], rankers: PastRankers) -> Iterator[Recomputed]:
    """Compute answers again, and compare them with those that were given.

    Parameters
    ----------
    samples
        The samples, in any order.
    rankers
        The rankers of then.

    Yields
    ------
    Recomputed
        One for each sample, in no order.
    """
    waiting = iter(samples)
    while some := list(islice(waiting, AT_ONCE)):
        groups: dict[tuple[str, str], list[SampledRequest]] = defaultdict(list)
        for sample in some:
            groups[sample.version, sample.catalogue].append(sample)
        for (version, catalogue), group in groups.items():
            try:
                ranker = rankers.get_ranker(version, catalogue)
            except MissingPastError as missing:
                yield from (Recomputed(sample, missing.reason, missing.detail) for sample in group)
                continue
            yield from _recompute_group(group, ranker, rankers)


def make_question(sample: SampledRequest) -> Question:
    """Make the question that was asked: its answer does not depend on whether an explanation was wanted."""
    request = sample.parse_request()
    if request.explain:
        request = request.model_copy(update={"explain": False})
    return Question(request, sample.make_context(), sample.time)


def rank_questions(ranker: Ranker, questions: Sequence[Question]) -> list[Answer]:
    """Rank questions in batches."""
    answers: list[Answer] = []
    for begin in range(0, len(questions), BATCH):
        requests, contexts, times = zip(*questions[begin : begin + BATCH], strict=True)
        answers += ranker.rank(requests, contexts=contexts, now=times)
    return answers


def compare_question(ranker: Ranker, sample: SampledRequest, question: Question, answer: Answer) -> str:
    """Compare an answer out of a batch with the recorded one, and if it differs, the answer of the question alone.

    The last bits of a sum depend on how many requests are ranked together, and a predictor ranks one or many.
    """
    outcome = compare_answers(sample, answer)
    if outcome == EQUAL:
        return outcome
    (alone,) = rank_questions(ranker, [question])
    again = compare_answers(sample, alone)
    return EQUAL if again == EQUAL else outcome


def describe_difference(sample: SampledRequest, answer: Answer) -> str:
    """Describe in a few words where an answer differs from the recorded one."""
    original, repeated = (
        list(zip(sample.items, sample.scores, strict=True)),
        list(zip(answer.ids, answer.scores, strict=True)),
    )
    for place, (before, after) in enumerate(zip(original, repeated, strict=False)):
        if before != after:
            return f"place {place}: {before[0]} {before[1]} → {after[0]} {after[1]}"
    if len(original) != len(repeated):
        return f"items: {len(original)} → {len(repeated)}"
    before_rest = f"{sample.unknown}, {sample.fallback}, {sample.precomputed}"
    return f"unknown, fallback, precomputed: {before_rest} → {answer.unknown}, {answer.reason}, {answer.precomputed}"


def _recompute_group(group: Sequence[SampledRequest], ranker: Ranker, rankers: PastRankers) -> Iterator[Recomputed]:
    ready = []
    for sample in group:
        try:
            rankers.check_key(sample)
            ready.append(sample)
        except MissingPastError as missing:
            yield Recomputed(sample, missing.reason, missing.detail)
    questions = [make_question(sample) for sample in ready]
    answers = rank_questions(ranker, questions)
    for sample, question, answer in zip(ready, questions, answers, strict=True):
        outcome = compare_question(ranker, sample, question, answer)
        yield Recomputed(sample, outcome, "" if outcome == EQUAL else describe_difference(sample, answer), question)
