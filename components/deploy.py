"""Step seven writes the desired state of serving for a registered version."""

from kfp import dsl

from endcap_components.image import IMAGE


@dsl.component(base_image=IMAGE, packages_to_install=[], install_kfp_package=False)
def deploy(
    recommender: dict,
    version: str,
    store: str,
    registry: str = "",
    run: str = "",
    created: str = "",
    image: str = "",
    namespace: str = "",
) -> str:
    """Serve the champion to everyone, or a challenger to the canary's share; returns one line about the state.

    namespace: the namespace of the cluster that serves; empty: the step only writes the desired state, which a server
    then follows.
    """
    from endcap.project import Project
    from endcap_components.lifecycle import run_step

    with run_step("deploy", store, run=run, created=created, image=image) as reporter:
        project = Project.of(store, recommender=recommender, registry=registry, progress=reporter.progress)
        deployed = project.deploy(version, namespace=namespace)
        if deployed.outcome:
            print(deployed.outcome, flush=True)
        return reporter.done(deployed.summary)
