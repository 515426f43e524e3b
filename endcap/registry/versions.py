"""The registry: MLflow's versions and aliases, with the states of an approval.

A version's source is its package's address in Endcap's store; its tags say where it comes from and who decided. MLflow
keeps the source as it was registered, since its servers take absolute addresses alone. Where the store was moved since,
a version's package is read as its address in the store now.
"""

from __future__ import annotations

import contextlib
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any, Literal

from endcap.errors import IntegrityError, NotFoundError, TransientError, UserError
from endcap.registry.aliases import CHALLENGER, CHAMPION, drop_alias, read_aliases, set_alias
from endcap.registry.connection import SQLITE, connect_mlflow, find_sqlite_file, lock_registry, retry_lookup
from endcap.registry.decision_hold import hold_decision
from endcap.registry.relocation import get_artifact_folder, relocate
from endcap.retries import disable_retries, watch_call
from endcap.store import Store
from endcap.store.base import Hold

VersionState = Literal["pending", "approved", "rejected"]
_SETTLED_TAG = "settled"
"""Tag of a version whose aliases were set once: repeating its registration leaves later decisions alone."""
DIGEST_TAG = "package_digest"
"""Tag of a version: what its package's files are known by, wherever they lie."""
_ADDRESS_TAGS = ("dataset", "snapshot", "verdict")
"""Tags that are addresses in the store."""


def get_default_uri(store: Store) -> str:
    """Return the address of the registry that a store in a local folder has by default: a SQLite file in the folder.

    Raises
    ------
    UserError
        The store is not a folder, or its path contains a character that has another meaning in an address.
    """
    scheme, _, folder = store.root.partition("://")
    if scheme != "file":
        raise UserError(
            f"the store {store.root} has no registry of its own: a data base needs a disk. Name one by --registry or "
            "ENDCAP_REGISTRY, such as http://mlflow:5000 or sqlite:////folder/mlflow.db",
            code="registry.none",
            store=store.root,
            variable="ENDCAP_REGISTRY",
        )
    if bad_letter := next((letter for letter in "?%" if letter in folder), None):
        raise UserError(
            f"store {folder}: found {bad_letter!r}, which a registry's address cannot hold; "
            "name another folder, or another registry (--registry sqlite:////folder/mlflow.db)",
            code="registry.folder-name",
            store=folder,
            found=bad_letter,
        )
    return f"{SQLITE}{folder}/mlflow.db"


def open_registry(uri: str | None, store: Store) -> Registry:
    """Open a registry. The first call of a process imports MLflow, which takes about two seconds.

    Parameters
    ----------
    uri
        The address of an MLflow server or data base. None or empty: a SQLite file in the store's folder.
    store
        The store that holds the versions' packages.

    Returns
    -------
    Registry
        The registry. A data base that does not exist yet is created.

    Raises
    ------
    UserError
        The address is malformed, no registry belongs to a store in a bucket, or the registry is a server and the store
        a local folder: MLflow's server refuses addresses of local folders.
    TransientError
        The registry does not answer.
    """
    if uri and uri.startswith(("http://", "https://")) and store.root.startswith("file://"):
        raise UserError(
            f"registry {uri}: a server takes no versions from a folder such as {store.root}; "
            "allowed: the address of its data base, such as sqlite:////folder/mlflow.db or postgresql://…",
            code="registry.server-for-folder",
            registry=uri,
            store=store.root,
        )
    return Registry(uri or get_default_uri(store), store)


def check_registry(uri: str | None, store: Store) -> None:
    """Send one request to a registry's server, so that a wrong password is reported before any work.

    A server that does not answer raises nothing here: the steps wait for it. A SQLite file is not checked.

    Raises
    ------
    UserError
        The server refuses the address or the credentials.
    """
    if uri and not uri.startswith(SQLITE):
        with watch_call(f"the registry {uri}"), disable_retries(), contextlib.suppress(TransientError):
            open_registry(uri, store).client.search_registered_models(max_results=1)


def find_registry(uri: str | None, store: Store) -> Registry | None:
    """Open a registry only if it exists; None if it does not. Parameters and errors are those of `open_registry`."""
    if not uri and not store.root.startswith("file://"):
        return None
    file = find_sqlite_file(uri or get_default_uri(store))
    return open_registry(uri, store) if file is None or file.exists() else None


@dataclass(frozen=True)
class Version:
    """One registered version.

    Attributes
    ----------
    name
        The recommender.
    version
        The version's number, as MLflow counts.
    package
        The package's address in the store; as it was registered if the store lacks it or has another one.
    state
        ``pending``, ``approved`` or ``rejected``.
    by, when, why
        Who decided on the state (``gate`` or a person), when (ISO 8601) and for what reason.
    aliases
        ``champion``, ``challenger`` or none.
    tags
        MLflow's tags, such as ``dataset`` and ``commit``.
    created
        When the version was registered, epoch milliseconds.
    """

    name: str
    version: str
    package: str
    state: VersionState
    by: str
    when: str
    why: str
    aliases: list[str] = field(default_factory=list)
    tags: Mapping[str, str] = field(default_factory=dict)
    created: int = 0


class Registry:
    """The versions that an MLflow server or data base holds.

    Every method may raise UserError if the registry refuses the request, and TransientError if it does not answer.

    Parameters
    ----------
    uri
        The address of the server or data base.
    store
        The store that holds the versions' packages. Without one, packages have the addresses that were registered.
    """

    def __init__(self, uri: str, store: Store | None = None) -> None:
        self.uri = uri
        self._store = store
        # A store's own data base moves with it.
        file = find_sqlite_file(uri)
        self._own = store is not None and file is not None and store.root == f"file://{file.parent}"
        self.client: Any = connect_mlflow(uri)
        relocate(uri)

    def names(self) -> list[str]:
        """Return the names of all recommenders that have versions."""
        recommenders: list[str] = []
        page = None
        while True:
            models = self.client.search_registered_models(max_results=1000, page_token=page)
            recommenders += [str(model.name) for model in models]
            page = models.token
            if not page:
                return sorted(recommenders)

    def versions(self, name: str) -> list[Version]:
        """Return all versions of a recommender, oldest first; an empty list if nothing was registered."""
        aliases = read_aliases(self.client, name)
        records = self.client.search_model_versions(f"name = '{name}'", max_results=10_000)
        return sorted((self._version(record, aliases) for record in records), key=lambda record: int(record.version))

    def version(self, name: str, version: str) -> Version:
        """Return one version. Raises NotFoundError, which lists the versions that exist."""
        known = self.versions(name)
        for known_version in known:
            if known_version.version == str(version):
                return known_version
        versions = [known_version.version for known_version in known]
        listed = ", ".join(versions) or "none; `endcap run` registers the first"
        raise NotFoundError(
            f"{name} has no version {version} in {self.uri}; there are: {listed}",
            code="registry.version-not-found",
            recommender=name,
            registry=self.uri,
            found=str(version),
            allowed=versions,
        )

    def champion(self, name: str) -> Version | None:
        """Return the champion, which serves most shoppers and which others are compared with; None if there is none."""
        return self._by_alias(name, CHAMPION)

    def challenger(self, name: str) -> Version | None:
        """Return the challenger, the newest approved version that is not the champion yet; None if there is none."""
        return self._by_alias(name, CHALLENGER)

    def add(
        self, name: str, package: str, state: VersionState, why: str, tags: Mapping[str, str], run_id: str | None = None
    ) -> Version:
        """Register a package as a new version, or return the version that it was registered as before.

        Parameters
        ----------
        name
            The recommender.
        package
            The package's address in the store.
        state, why
            The gate's decision and its reason. They count only for a new version.
        tags
            The lineage. Empty values are left out.
        run_id
            The MLflow run that the version's page links to.

        Returns
        -------
        Version
            The version. An approved one becomes the challenger, or the champion if there is none.

        Notes
        -----
        A process that is killed leaves no version, or one that the next call finds and completes.
        """

        def find_or_make() -> str:
            known = [registered for registered in self.versions(name) if registered.package == package]
            if known:
                if DIGEST_TAG in tags and DIGEST_TAG not in known[0].tags:  # of a release before
                    self.client.set_model_version_tag(name, known[0].version, DIGEST_TAG, tags[DIGEST_TAG])
                return known[0].version
            self._create_name(name)
            decided = {"state": state, "decided_by": "gate", "decided_when": _format_now(), "decided_why": why}
            all_tags = {**{key: value for key, value in tags.items() if value}, **decided}
            return str(self.client.create_model_version(name, package, run_id, tags=all_tags).version)

        with self.hold_decisions(name) as hold:
            hold.check()
            version = retry_lookup(find_or_make)
            self._settle(name, version, hold)
            return self.version(name, version)

    def approve(self, name: str, version: str, *, by: str, why: str) -> Version:
        """Record a person's approval: the version becomes the challenger, or the champion if there is none.

        Parameters
        ----------
        name, version
            The recommender and the version's number.
        by, why
            Who decided, and the reason.

        Raises
        ------
        NotFoundError
            There is no such version.
        TransientError
            Another process is deciding on this recommender, or other software sets its aliases.
        """
        with self.hold_decisions(name) as hold:
            return self._decide(name, version, "approved", by, why, hold)

    def reject(self, name: str, version: str, *, by: str, why: str) -> Version:
        """Record a person's rejection: the version loses the alias challenger.

        Parameters
        ----------
        name, version
            The recommender and the version's number.
        by, why
            Who decided, and the reason.

        Raises
        ------
        UserError
            The version is the champion.
        NotFoundError
            There is no such version.
        TransientError
            Another process is deciding on this recommender.
        """
        with self.hold_decisions(name) as hold:
            champion = self.champion(name)
            if champion and champion.version == str(version):
                raise UserError(
                    f"{name} version {version} is the champion; promote another version first",
                    code="registry.is-champion",
                    recommender=name,
                    version=str(version),
                )
            return self._decide(name, version, "rejected", by, why, hold)

    def promote(self, name: str, version: str) -> Version:
        """Make an approved version the champion.

        Raises
        ------
        UserError
            The version is not approved.
        NotFoundError
            There is no such version.
        TransientError
            Another process is deciding on this recommender, or other software sets its aliases.
        """
        with self.hold_decisions(name) as hold:
            current = self.version(name, version)
            if current.state != "approved":
                raise UserError(
                    f"{name} version {version} is {current.state}; allowed: an approved version. Approve it first",
                    code="registry.not-approved",
                    recommender=name,
                    version=current.version,
                    found=current.state,
                )
            set_alias(self.client, name, CHAMPION, current.version, hold)
            if CHALLENGER in current.aliases:
                drop_alias(self.client, name, CHALLENGER, hold)
            return self.version(name, version)

    def hold_decisions(self, name: str) -> contextlib.AbstractContextManager[Hold]:
        """Keep other processes from deciding on a recommender during a block; see `endcap.registry.decision_hold`."""
        return hold_decision(name, self._store, self.uri)

    def experiment(self, name: str) -> str:
        """Return the id of the MLflow experiment of a recommender's runs. It is created if there is none."""

        def find_or_make() -> str:
            experiment = self.client.get_experiment_by_name(name)
            if experiment is not None:
                return str(experiment.experiment_id)
            # Otherwise MLflow would put `mlruns` into the current folder.
            return str(self.client.create_experiment(name, artifact_location=get_artifact_folder(self.uri)))

        with self._alone():
            return retry_lookup(find_or_make)

    def run(self, experiment: str, where: str, **new: Any) -> tuple[Any, bool]:
        """Find a run of an experiment, or create one.

        Parameters
        ----------
        experiment
            The experiment's id.
        where
            MLflow's filter that finds the run.
        **new
            What `create_run` gets if the filter finds no run.

        Returns
        -------
        tuple
            MLflow's run, and whether it is new.
        """

        def find_or_make() -> tuple[Any, bool]:
            runs = list(self.client.search_runs([experiment], where, max_results=1))
            return (runs[0], False) if runs else (self.client.create_run(experiment, **new), True)

        with self._alone():
            return retry_lookup(find_or_make)

    def _decide(self, name: str, version: str, state: VersionState, by: str, why: str, hold: Hold) -> Version:
        current = self.version(name, version)
        # The state comes last: what is approved has its reasons, wherever this ends.
        decision = {"decided_by": by, "decided_when": _format_now(), "decided_why": why, "state": state}
        hold.check()
        for key, value in decision.items():
            self.client.set_model_version_tag(name, current.version, key, value)
        if state == "rejected" and CHALLENGER in current.aliases:
            drop_alias(self.client, name, CHALLENGER, hold)
        self._settle(name, current.version, hold)
        return self.version(name, version)

    def _settle(self, name: str, version: str, hold: Hold) -> None:
        """Give a version that was just approved its alias, once."""
        current = self.version(name, version)
        if current.state != "approved" or _SETTLED_TAG in current.tags:
            return
        alias = CHALLENGER if self.champion(name) else CHAMPION
        set_alias(self.client, name, alias, current.version, hold)
        self.client.set_model_version_tag(name, current.version, _SETTLED_TAG, "yes")

    def _by_alias(self, name: str, alias: str) -> Version | None:
        number = read_aliases(self.client, name).get(alias)
        return None if number is None else self.version(name, number)

    def _create_name(self, name: str) -> None:
        from mlflow.exceptions import MlflowException

        try:
            self.client.create_registered_model(name)
        except MlflowException as error:
            if error.error_code != "RESOURCE_ALREADY_EXISTS":
                raise

    def _version(self, record: Any, aliases: Mapping[str, str]) -> Version:
        tags = dict(record.tags)
        version = str(record.version)
        package = self._package(record.source, tags.get(DIGEST_TAG, ""))
        if package != record.source and self._store is not None:
            tags |= self._store.translate({name: tags[name] for name in _ADDRESS_TAGS if name in tags})
        return Version(
            name=record.name,
            version=version,
            package=package,
            state=tags.get("state", "pending"),
            by=tags.get("decided_by", ""),
            when=tags.get("decided_when", ""),
            why=tags.get("decided_why", ""),
            aliases=sorted(alias for alias, of in aliases.items() if of == version),
            tags=tags,
            created=int(record.creation_timestamp),
        )

    def _package(self, source: str, digest: str) -> str:
        """A version's package in the store; its source as it is where the store has another artifact, or none."""
        if self._store is None:
            return source
        with contextlib.suppress(UserError, IntegrityError):  # another store's, or of a newer release
            return self._store.resolve(self._store.translate(source) if self._own else source, digest=digest)
        return source

    def _alone(self) -> contextlib.AbstractContextManager[None]:
        return lock_registry(self.uri)


def _format_now() -> str:
    return datetime.now(UTC).isoformat(timespec="seconds")
