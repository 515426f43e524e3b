"""Step four: a fitted model to a verdict, against the champion and the baselines."""

from kfp import dsl

from endcap_components.image import IMAGE


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
    """Judge a model on the test part; returns the gate's word: `passed`, `failed` or `undecided`.

    shop: whose rules hold. verdict: the verdict's address. report: what was judged, as a page to look at. The word is
    the component's only return value because KFP's local runner resolves no other in a condition.
    """
    import shutil
    from pathlib import Path

    from endcap.project import Project
    from endcap_components.lifecycle import run_step

    with run_step("evaluate", store, run=run, created=created, image=image) as reporter:
        project = Project.of(store, recommender=recommender, shop=shop, registry=registry, progress=reporter.progress)
        judged = project.evaluate(trained, dataset=dataset)
        Path(verdict).write_text(judged.address)
        shutil.copyfile(judged.report, report.path)
        reporter.done(judged.address, judged.summary, gate=judged.outcome)
        return judged.outcome
