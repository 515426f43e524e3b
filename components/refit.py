"""Step five, after the gate, fits the winner on all data and writes a package."""

from kfp import dsl

from endcap_components.image import IMAGE


@dsl.component(base_image=IMAGE, packages_to_install=[], install_kfp_package=False)
def refit(
    recommender: dict,
    verdict: str,
    store: str,
    run: str = "",
    created: str = "",
    image: str = "",
) -> str:
    """Fit the winner on all data for the chosen number of epochs, and write the package; returns its address."""
    from endcap.project import Project
    from endcap_components.lifecycle import run_step

    with run_step("refit", store, run=run, created=created, image=image) as reporter:
        package = Project.of(store, recommender=recommender, progress=reporter.progress).refit(verdict)
        return reporter.done(package.address, package.summary)
