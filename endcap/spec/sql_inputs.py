"""Which tables steps of SQL make for each other and for the shop's sources, and checks that each is made in time."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import takewhile

from endcap.spec.base import Mistake, find_mistakes, is_whole, select_known, suggest
from endcap.spec.pipeline import Pipeline
from endcap.spec.recommender import Recommender
from endcap.spec.shop import Shop
from endcap.spec.source import SourceSpec
from endcap.spec.step_order import order_steps
from endcap.spec.yaml_tree import join_words
from endcap.steps import PIPELINES, STEPS

_FIRST = next(iter(STEPS))


def list_source_steps(shop: Shop) -> list[str]:
    """List the steps of SQL whose output the shop's sources read, each once."""
    sources: list[SourceSpec] = list(select_known(shop.events.sources).values())
    if shop.customers is not None:
        sources += select_known(shop.customers.sources).values()
    steps = (source.step for source in sources)
    return list(dict.fromkeys(step for step in steps if step is not None))


def list_sql_steps(settings: Pipeline, steps: Sequence[str]) -> list[str]:
    """Return those of these steps that are steps of SQL."""
    return [name for name in steps if name in settings.steps and settings.steps[name].sql is not None]


def list_first_steps(settings: Pipeline) -> list[str]:
    """List the enabled steps that run before ingest, in their order."""
    return list(takewhile(lambda name: name != _FIRST, order_steps("training", settings)))


def check_sql_inputs(recommender: Recommender, shop: Shop) -> Iterator[Mistake]:
    """Yield a mistake for each input and source that names a step of SQL which does not run before."""
    settings = recommender.pipeline
    if not is_whole(settings) or any(find_mistakes(settings)):
        return
    yield from dict.fromkeys(mistake for pipeline in PIPELINES for mistake in _check_pipeline(pipeline, settings))
    earlier = list_sql_steps(settings, list_first_steps(settings))
    for name in list_source_steps(shop):
        if name not in earlier:
            hint = f"the shop {shop.name} reads its output, so it must be a step of SQL that runs before ingest"
            yield _make_mistake(("pipeline", "steps"), name, hint, earlier)


def _check_pipeline(pipeline: str, settings: Pipeline) -> Iterator[Mistake]:
    order = order_steps(pipeline, settings)
    for number, name in enumerate(order):
        step = settings.steps.get(name)
        earlier = list_sql_steps(settings, order[:number])
        for table, source in step.sql.inputs.items() if step is not None and step.sql is not None else ():
            if source.step is not None and source.step not in earlier:
                key = ("pipeline", "steps", name, "sql", "inputs", table, "step")
                yield _make_mistake(key, source.step, f"a step of SQL that runs before {name}", earlier)


def _make_mistake(key: tuple[str, ...], name: str, allowed: str, earlier: Sequence[str]) -> Mistake:
    words = f"{allowed}: {join_words(earlier) or 'there is none'}"
    return Mistake(key, repr(name), words, suggest(name, earlier), code="unknown-name")
