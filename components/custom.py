"""A user's own step calls a function that the spec names, with the results of the run so far."""

from kfp import dsl

from endcap_components.image import IMAGE


@dsl.component(base_image=IMAGE, packages_to_install=[], install_kfp_package=False)
def custom(
    name: str,
    function: str,
    arguments: dict,
    shop: dict,
    recommender: dict,
    store: str,
    registry: str = "",
    snapshot: str = "",
    dataset: str = "",
    trained: str = "",
    verdict: str = "",
    package: str = "",
    version: str = "",
    recommendations: str = "",
    tables: dict = {},  # noqa: B006 (KFP's way to say a default)
    run: str = "",
    created: str = "",
    image: str = "",
):
    """Call `function` with the run's values that it has parameters for, and with `arguments`."""
    from endcap.registry import resolve_registry_url
    from endcap_components.lifecycle import run_step
    from endcap_components.user_function import call_function

    with run_step(name, store, run=run, created=created, image=image) as reporter:
        outputs = {"snapshot": snapshot, "dataset": dataset, "trained": trained}
        outputs |= {"verdict": verdict, "package": package, "version": version, "recommendations": recommendations}
        run_values = {
            "shop": shop,
            "recommender": recommender,
            "store": store,
            "registry": resolve_registry_url(registry),
            "tables": tables,
        }
        run_values |= {key: address for key, address in outputs.items() if address}
        result = call_function(function, run_values, arguments)
        reporter.done("" if result is None else str(result))
