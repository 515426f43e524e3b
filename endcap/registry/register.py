"""Registers a package that was judged as a version of its recommender."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Callable, Mapping

from endcap.errors import NotFoundError, UserError
from endcap.registry.factory import open_registry
from endcap.registry.package import IMAGE
from endcap.registry.verdict_log import link_version
from endcap.registry.version_records import DIGEST_TAG
from endcap.runs.code import find_commit
from endcap.spec.recommender import Recommender
from endcap.store import Store, digest_manifest, fingerprint

IMAGES = ("image", "train_image", "refit_image")
"""Tags that name what a version was registered, trained and refitted in."""


def register(
    recommender: Recommender,
    package: str,
    verdict: str,
    store: Store,
    registry_uri: str | None = None,
    *,
    run: str = "",
    progress: Callable[[str], None] = lambda line: None,
) -> str:
    """Register a package that passed the gate as a version, and return the version's number.

    With `approval: gate` in the spec the version is approved at once: it becomes the challenger, or the champion if
    there is none. With `approval: person` it is pending and has no alias until somebody approves it. A package that is
    registered again keeps its version.

    Parameters
    ----------
    recommender
        The recommender's spec.
    package, verdict
        The addresses of the package and of the verdict that it is registered for.
    store
        The store that holds both.
    registry_uri
        MLflow's address. None: a data base in the store.
    run
        The name of the run that registers it, for the lineage.
    progress
        Called with warnings for a person.

    Returns
    -------
    str
        The version's number.

    Raises
    ------
    UserError
        The gate failed (`registry.gate-failed`) or was undecided (`registry.gate-undecided`).
    NotFoundError
        The store lacks the package or the verdict.
    TransientError
        The registry does not answer, or another process is deciding on this recommender.

    Notes
    -----
    The version's tags name the images that registered it, trained the model and refitted it.
    """
    # A step on KFP may be given the addresses of a run from before the store was moved.
    package, verdict = store.resolve(package), store.resolve(verdict)
    facts = store.manifest(verdict)["facts"]
    if facts.get("outcome") == "undecided":
        lacking = facts["evidence"]["lacking"]
        raise UserError(
            f"{package} is not registered: its gate is undecided ({'; '.join(lacking)})",
            code="registry.gate-undecided",
            package=package,
            verdict=verdict,
            lacking=lacking,
        )
    if not facts["passed"]:
        failed = [condition["text"] for condition in facts["conditions"] if not condition["passed"]]
        raise UserError(
            f"{package} is not registered: its gate failed ({', '.join(failed)})",
            code="registry.gate-failed",
            package=package,
            verdict=verdict,
            conditions=failed,
        )
    tags = {
        "dataset": facts["dataset"],
        "dataset_content": _read_content(facts["dataset"], store),
        "snapshot": facts.get("snapshot", ""),
        "spec": fingerprint(recommender.model_dump(mode="json")),
        "commit": find_commit(),
        **_list_images(package, store),
        DIGEST_TAG: digest_manifest(store.manifest(package)),
        "run": run,
        "verdict": verdict,
    }
    if moving := sorted(
        {image for name, image in tags.items() if name in IMAGES and image and "@sha256:" not in image}
    ):
        progress(f"warning: the lineage names {', '.join(moving)} by a tag, which can be moved; name images by digest")
    by_gate = recommender.approval == "gate"
    why = "; ".join(condition["text"] for condition in facts["conditions"]) or "the gate has no conditions"
    registry, logged = open_registry(registry_uri, store), facts.get("mlflow_run")
    version = registry.add_version(
        recommender.name,
        package,
        "approved" if by_gate else "pending",
        f"passed: {why}" if by_gate else f"passed the gate ({why}), waits for a person",
        tags,
        logged,
    )
    if logged:
        link_version(registry, logged, version)
    return version.version


def describe_version(name: str, version: str, store: Store, registry_uri: str | None = None) -> str:
    """Describe a version in one line: its state, who decided on it, and its aliases.

    Raises
    ------
    NotFoundError
        There is no such version.
    """
    version_record = open_registry(registry_uri, store).get_version(name, version)
    if version_record.state == "pending":
        return f"{name} version {version}, pending: `endcap registry approve {name} {version}` lets it go on"
    aliases = f", {' and '.join(version_record.aliases)}" if version_record.aliases else ""
    return f"{name} version {version}, {version_record.state} by {version_record.by}{aliases}"


def _read_content(dataset: str, store: Store) -> str:
    """Read a dataset's content digest; empty if the dataset was removed, or comes from release 0.1.0."""
    with contextlib.suppress(NotFoundError):
        return str(store.manifest(dataset)["facts"].get("content", ""))
    return ""


def _list_images(package: str, store: Store) -> dict[str, str]:
    """List the image of each step that made a version; empty for a step that ran outside of images."""
    made_of = store.manifest(package)["facts"]

    def image(address: str | None) -> str:
        environment: Mapping[str, str] = store.manifest(address)["facts"].get("environment", {}) if address else {}
        return environment.get("image", "")

    of_each = (os.environ.get(IMAGE, ""), image(made_of.get("trained")), image(made_of.get("fitted")))
    return dict(zip(IMAGES, of_each, strict=True))
