"""A step of SQL: a SELECT over files and tables becomes a table of the store. It stands where the spec puts it."""

from kfp import dsl

from endcap_components.image import IMAGE


@dsl.component(base_image=IMAGE, packages_to_install=[], install_kfp_package=False)
def sql(
    name: str,
    settings: dict,
    shop: dict,
    store: str,
    tables: dict = {},  # noqa: B006 (KFP's way to say a default)
    snapshot: str = "",
    dataset: str = "",
    logical_date: str = "",
    trigger: str = "",
    run: str = "",
    created: str = "",
    image: str = "",
) -> str:
    """Run the statement of the spec's step `name`, and write its rows; returns their address.

    settings: the step's `sql`. tables: addresses of what earlier steps of SQL made, by the steps' names. trigger: as of
    the ingest step, for a step that runs first.
    """
    from endcap.project import Project
    from endcap.spec.sql_step import SqlSpec
    from endcap_components.lifecycle import run_step

    with run_step(name, store, run=run, created=created, image=image, trigger=trigger) as reporter:
        project = Project.of(store, shop=shop, progress=reporter.progress)
        artifacts = {"snapshot": snapshot or None, "dataset": dataset or None}
        spec = SqlSpec.model_validate(settings)
        table = project.sql(name, spec=spec, tables=tables, until=logical_date, **artifacts)
        return reporter.done(table.address, table.summary)
