"""Reports as artifacts. A verdict's report is copied into the verdict's MLflow run too."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from endcap.description import describe
from endcap.errors import NotFoundError
from endcap.evaluation.judge import REPORT
from endcap.registry import open_registry
from endcap.registry.package import RULES
from endcap.report.document import ASSETS, read_asset
from endcap.report.facts import Json, ReportFacts
from endcap.report.page import render
from endcap.rules import Catalogue
from endcap.safe_reading import read_json
from endcap.store import Store, fingerprint, fingerprint_code, get_content_key
from endcap.store.schemas import report_malformed

REPORT_FILE = "report.html"
ENTRY = "endcap.report.publish:publish_report"
COMPARISON_ENTRY = "endcap.report.publish:publish_comparison_report"
"""The code that makes a report of a verdict, and of a comparison; their keys depend on it."""


def publish_report(
    recommender: str,
    verdict: str,
    store: Store,
    registry_uri: str | None = None,
    *,
    progress: Callable[[str], None] = lambda line: None,
) -> str:
    """Make the report of a verdict, or find it, and return its address. The artifact's only file is `report.html`.

    The report is no part of the verdict: a verdict that took an hour must not be lost because showing it failed, and an
    older one can be shown anew. For the same reason a registry that takes no file is a warning.
    """
    if address := find_report(recommender, verdict, store):
        return address
    with store.publish(_build_kind(recommender), _build_key(verdict)) as draft:
        facts = gather_facts(recommender, verdict, store)
        file = draft.path / REPORT_FILE
        with report_malformed("verdicts", verdict):
            file.write_text(render(facts), encoding="utf-8")
        draft.facts["verdict"] = verdict
        if run := facts.verdict.get("mlflow_run"):
            try:
                open_registry(registry_uri, store).client.log_artifact(run, str(file))
            # Artifacts of runs may lie anywhere, each place with errors of its own.
            except Exception as error:
                progress(f"warning: the report is not in MLflow, only in the store: {error}")
    return draft.address


def find_report(recommender: str, verdict: str, store: Store) -> str | None:
    """Return the address of a verdict's report, or None if this code has made none."""
    return store.find(_build_kind(recommender), _build_key(verdict))


def publish_comparison_report(
    recommender: str, comparison: str, store: Store, *, progress: Callable[[str], None] = lambda line: None
) -> str:
    """Make the report of a comparison, or find it, and return its address. The artifact's only file is
    `report.html`."""
    if address := find_comparison_report(recommender, comparison, store):
        return address
    progress("writing the report")
    with store.publish(_build_kind(recommender), _build_key(comparison, COMPARISON_ENTRY)) as draft:
        manifest, folder = store.manifest(comparison), store.fetch(comparison)
        with report_malformed("comparisons", comparison):
            trained = {label: store.manifest(address) for label, address in manifest["facts"]["trained"].items()}
            report = read_json(folder / REPORT)
            data = _describe_data(manifest["facts"], folder, store)
            facts = ReportFacts.of_comparison(recommender, manifest, trained, report, data)
            (draft.path / REPORT_FILE).write_text(render(facts), encoding="utf-8")
        draft.facts["comparison"] = comparison
    return draft.address


def find_comparison_report(recommender: str, comparison: str, store: Store) -> str | None:
    """Return the address of a comparison's report, or None if this code has made none."""
    return store.find(_build_kind(recommender), _build_key(comparison, COMPARISON_ENTRY))


def locate_report(address: str) -> str:
    """Return where a report's file is: its path, or its address in a bucket."""
    return f"{address.removeprefix('file://')}/{REPORT_FILE}"


def gather_facts(recommender: str, verdict: str, store: Store) -> ReportFacts:
    """Gather what the steps stored about a verdict, its model, and the data of both."""
    with report_malformed("verdicts", verdict):
        manifest = store.manifest(verdict)
        trained = store.manifest(manifest["facts"]["trained"])
        report = read_json(store.fetch(verdict) / REPORT)
        return ReportFacts.of(
            recommender, manifest, trained, report, _describe_data(manifest["facts"], store.fetch(verdict), store)
        )


def _describe_data(verdict: Json, folder: Path, store: Store) -> Json | None:
    """Describe a verdict's data by the rules that it was judged by; None if they are gone."""
    rules = folder / RULES
    judged = Catalogue.from_json(read_json(rules)) if rules.is_file() else None
    try:
        return describe(verdict["snapshot"], verdict["dataset"], store, judged)
    except NotFoundError:
        return None


def _build_kind(recommender: str) -> str:
    return f"reports/{recommender}"


def _build_key(shown: str, entry: str = ENTRY) -> str:
    from plotly import __version__

    return fingerprint(
        get_content_key(shown), fingerprint_code(entry), [read_asset(name) for name in ASSETS], __version__
    )
