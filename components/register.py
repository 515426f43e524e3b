"""Step six registers a package as a version."""

from kfp import dsl

from endcap_components.image import IMAGE


@dsl.component(base_image=IMAGE, packages_to_install=[], install_kfp_package=False)
def register(
    recommender: dict,
    package: str,
    verdict: str,
    store: str,
    registry: str = "",
    run: str = "",
    created: str = "",
    image: str = "",
) -> str:
    """Register the package as a version that is approved or waits for approval; returns the version."""
    from endcap.project import Project
    from endcap_components.lifecycle import run_step

    with run_step("register", store, run=run, created=created, image=image) as reporter:
        project = Project.of(
            store, recommender=recommender, registry=registry, run=reporter.run, progress=reporter.progress
        )
        version = project.register(package, verdict=verdict)
        return reporter.done(version.number, version.summary)
