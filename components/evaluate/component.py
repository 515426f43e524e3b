"""Step four: a fitted model to a verdict, against the champion and the baselines."""

from kfp import dsl

from ..image import IMAGE


@dsl.component(base_image=IMAGE, packages_to_install=[], install_kfp_package=False)
def evaluate(
    recommender: dict,
    dataset: str,
    trained: str,
    store: str,
    verdict: dsl.OutputPath(str),
    report: dsl.Output[dsl.HTML],
    registry: str = "",
    shop: dict = {},  # noqa: B006 (KFP's way to say a default)
    run: str = "",
    created: str = "",
    image: str = "",
) -> str:
    """Judge a model on the test part; returns the gate's word, `passed` or `failed`. shop: whose rules hold.

    verdict: the verdict's address. report: what was judged, as a page to look at. The word is the component's only
    return value because KFP's local runner resolves no other in a condition.
    """
    import shutil
    from pathlib import Path

    from endcap.evaluation import describe, judge
    from endcap.report import FILE, publish_report
    from endcap.spec import Recommender, Shop
    from endcap.store import open_store
    from endcap_components.step import step

    with step("evaluate", store, run=run, created=created, image=image) as current:
        opened = open_store(store)
        spec = Recommender.model_validate(recommender)
        rules_of = Shop.model_validate(shop) if shop else None
        address = judge(spec, dataset, trained, opened, registry or None, shop=rules_of, progress=current.progress)
        facts = opened.manifest(address)["facts"]
        Path(verdict).write_text(address)
        shown = publish_report(spec.name, address, opened, registry or None, progress=current.progress)
        shutil.copyfile(opened.fetch(shown) / FILE, report.path)
        current.done(address, describe(facts))
        return "passed" if facts["passed"] else "failed"
