"""Step four: a fitted model to a verdict, against the champion and the baselines."""

from typing import NamedTuple

from kfp import dsl

from ..image import IMAGE


@dsl.component(base_image=IMAGE, packages_to_install=[], install_kfp_package=False)
def evaluate(recommender: dict, dataset: str, trained: str, store: str, registry: str = "") -> NamedTuple(
    "Judged", [("verdict", str), ("gate", str)]
):
    """Judge a model on the test part; returns the verdict's address and the gate's word, `passed` or `failed`."""
    from endcap.evaluation import describe, judge
    from endcap.spec import Recommender
    from endcap.store import open_store
    from endcap_components.step import step

    with step("evaluate") as current:
        opened = open_store(store)
        spec = Recommender.model_validate(recommender)
        verdict = judge(spec, dataset, trained, opened, registry or None, progress=current.progress)
        facts = opened.manifest(verdict)["facts"]
        current.done(verdict, describe(facts))
        return verdict, "passed" if facts["passed"] else "failed"
