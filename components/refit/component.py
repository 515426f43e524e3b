"""Step five, after the gate: the winner fitted on all data, made into a package."""

from kfp import dsl

from ..image import IMAGE


@dsl.component(base_image=IMAGE, packages_to_install=[], install_kfp_package=False)
def refit(
    recommender: dict,
    dataset: str,
    trained: str,
    verdict: str,
    store: str,
    run: str = "",
    created: str = "",
    image: str = "",
) -> str:
    """Fit the winner on all data for the number of epochs found, and write the package; returns its address."""
    from endcap.spec import Recommender
    from endcap.store import open_store
    from endcap.training import refit
    from endcap_components.step import step

    with step("refit", store, run=run, created=created, image=image) as current:
        opened = open_store(store)
        spec = Recommender.model_validate(recommender)
        package = refit(spec, dataset, trained, verdict, opened, progress=current.progress)
        size = sum(described["bytes"] for described in opened.manifest(package)["files"].values())
        return current.done(package, f"{size / 1e6:,.1f} MB")
