"""Step four compares a fitted model with the champion and the baselines, and writes a verdict."""

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
    """Evaluate a model on the test part; returns the gate's outcome: `passed`, `failed` or `undecided`.

    shop: the shop whose rules apply. verdict: receives the verdict's address. report: receives the report as a page.
    The outcome is the component's only return value because KFP's local runner resolves no other in a condition.
    """
    import shutil
    from pathlib import Path

    from endcap.project import Project
    from endcap_components.lifecycle import run_step
    from endcap_components.messages import tell_verdict

    with run_step("evaluate", store, run=run, created=created, image=image) as reporter:
        project = Project.of(store, recommender=recommender, shop=shop, registry=registry, progress=reporter.progress)
        result = project.evaluate(trained, dataset=dataset)
        Path(verdict).write_text(result.address)
        shutil.copyfile(result.report, report.path)
        reporter.done(result.address, result.summary, gate=result.outcome)
        tell_verdict(store, result.address, recommender["name"], reporter.run)
        return result.outcome
