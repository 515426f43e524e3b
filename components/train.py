"""Step three fits a model on a dataset, ready for evaluation."""

from kfp import dsl

from endcap_components.image import IMAGE


@dsl.component(base_image=IMAGE, packages_to_install=[], install_kfp_package=False)
def train(
    recommender: dict,
    dataset: str,
    store: str,
    registry: str = "",
    run: str = "",
    created: str = "",
    image: str = "",
) -> str:
    """Search the model's settings if the spec says so, and fit it; returns its address. A retry resumes."""
    from endcap.project import Project
    from endcap_components.lifecycle import run_step

    with run_step("train", store, run=run, created=created, image=image) as reporter:
        project = Project.of(store, recommender=recommender, registry=registry, progress=reporter.progress)
        trained = project.train(dataset)
        return reporter.done(trained.address, trained.summary)
