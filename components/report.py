"""The exit task reports how the run ended: it prints the end and completes the run's document in the store."""

from kfp import dsl

from endcap_components.image import IMAGE


@dsl.component(base_image=IMAGE, packages_to_install=[], install_kfp_package=False)
def report(
    status: dsl.PipelineTaskFinalStatus,
    store: str,
    steps: list,
    pipeline: str = "",
    recommender: dict = {},  # noqa: B006 (KFP's way to say a default)
    shop: dict = {},  # noqa: B006
    logical_date: str = "",
    run: str = "",
):
    """Complete the document `runs/<run>`: how the run ended, which step failed and why, and each step's result.

    pipeline, recommender, shop, logical_date: what the run was for; its first step knows only part of this.
    """
    from endcap.runs import Fault, end_run, find_current_run, keep_specs
    from endcap.runs.start import Start
    from endcap.store import open_store
    from endcap_components.messages import tell_failed_run

    opened, documents = open_store(store), {"recommender": recommender, "shop": shop}
    names = {kind: document.get("name", "") for kind, document in documents.items()}
    of = Start(pipeline=pipeline, **names, spec=keep_specs(opened, documents), logical_date=logical_date)
    error = Fault(status.error_message, code="kfp.run-failed") if status.error_message else None
    document = end_run(opened, find_current_run(run), status.state, steps, error, of=of)
    print(f"run {document['run']} {document['state']}", flush=True)
    if document["state"] == "failed":
        print(f"step {document['step'] or '(unknown)'} failed: {document['cause']}", flush=True)
    tell_failed_run(store, document)
