"""Step six: a package to a version in the registry."""

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
    """Make a version of the package, approved by the gate or waiting for a person; returns the version."""
    from endcap.project import Project
    from endcap_components.step import step

    with step("register", store, run=run, created=created, image=image) as current:
        project = Project.of(
            store, recommender=recommender, registry=registry, run=current.run, progress=current.progress
        )
        version = project.register(package, verdict=verdict)
        return current.done(version.number, version.summary)
