"""Computes sampled answers again, with the model and the rules of then and the context as it was recorded."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Iterator, Sequence
from itertools import cycle, islice
from typing import NamedTuple

from endcap.ranking import Answer, Ranker, RankRequest, ShopperContext
from endcap.replay.comparison import compare_answers
from endcap.replay.past_rankers import MissingPastError, PastRankers
from endcap.replay.reasons import EQUAL
from endcap.samples import SampledRequest

AT_ONCE = 4096
"""Samples that are looked at together."""
BATCH = 16
"""Requests in one batch, where the model scored none."""


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
    """Rank questions together."""
    requests, contexts, times = zip(*questions, strict=True)
    return ranker.rank(requests, contexts=contexts, now=times)


def rank_as_then(ranker: Ranker, sample: SampledRequest, question: Question) -> Answer:
    """Rank a question in a batch as large as that of the sample, by repeating it."""
    return rank_questions(ranker, [question] * max(1, sample.together))[0]


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
    by_size: dict[int, list[SampledRequest]] = defaultdict(list)
    for sample in group:
        try:
            rankers.check_key(sample)
            by_size[sample.together].append(sample)
        except MissingPastError as missing:
            yield Recomputed(sample, missing.reason, missing.detail)
    for size, samples in by_size.items():
        questions = [make_question(sample) for sample in samples]
        answers = _rank_by_size(ranker, questions, size or BATCH)
        for sample, question, answer in zip(samples, questions, answers, strict=True):
            yield _compare(ranker, sample, question, answer)


def _rank_by_size(ranker: Ranker, questions: Sequence[Question], size: int) -> list[Answer]:
    """Rank questions in batches of one size. The last batch is filled up with questions of before."""
    answers: list[Answer] = []
    for begin in range(0, len(questions), size):
        some = questions[begin : begin + size]
        answers += rank_questions(ranker, [*some, *islice(cycle(questions), size - len(some))])[: len(some)]
    return answers


def _compare(ranker: Ranker, sample: SampledRequest, question: Question, answer: Answer) -> Recomputed:
    """Compare an answer with the recorded one.

    The last bits of a sum depend on how many sessions a model scores together. If a batch had other sessions than
    those that the model scored in the same call, the question is repeated to as many as there were then.
    """
    outcome = compare_answers(sample, answer)
    if outcome != EQUAL:
        answer = rank_as_then(ranker, sample, question)
        outcome = compare_answers(sample, answer)
    return Recomputed(sample, outcome, "" if outcome == EQUAL else describe_difference(sample, answer), question)
