"""Step six: a package to a version in the registry."""

from kfp import dsl

from ..image import IMAGE


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
    from endcap.registry import describe, register
    from endcap.spec import Recommender
    from endcap.store import open_store
    from endcap_components.step import step

    with step("register", store, run=run, created=created, image=image) as current:
        opened = open_store(store)
        spec = Recommender.model_validate(recommender)
        version = register(spec, package, verdict, opened, registry or None, run=current.run, progress=current.progress)
        return current.done(version, describe(spec.name, version, opened, registry or None))
