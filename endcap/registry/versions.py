"""The registry: versions in MLflow, their aliases, and the decisions on them.

MLflow holds the address that a version's package had when it was registered, because MLflow's servers take only
absolute addresses. If the store was moved since, the version's package is read at its present address. The tags of a
version say what it was made of and who decided on it.
"""

from __future__ import annotations

import contextlib
from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any

from endcap.errors import NotFoundError, UserError
from endcap.registry.aliases import CHALLENGER, CHAMPION, drop_alias, read_aliases, set_alias
from endcap.registry.connection import connect_mlflow, find_sqlite_file, retry_lookup
from endcap.registry.decision_hold import hold_decision
from endcap.registry.relocation import relocate
from endcap.registry.version_records import DIGEST_TAG, Version, VersionState, read_version
from endcap.store import Store
from endcap.store.base import Hold

_SETTLED_TAG = "settled"
"""The tag of a version that has got its alias. Registering the package again then leaves later decisions alone."""

_BEFORE_TAG = "champion_before"
"""The tag of a champion with the number of the version whose place it took."""


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
        # A data base in the store's folder is moved together with the folder.
        file = find_sqlite_file(uri)
        self._moves_with_store = store is not None and file is not None and store.root == f"file://{file.parent}"
        self.client: Any = connect_mlflow(uri)
        relocate(uri)

    def list_names(self) -> list[str]:
        """Return the names of all recommenders that have versions."""
        recommenders: list[str] = []
        page = None
        while True:
            models = self.client.search_registered_models(max_results=1000, page_token=page)
            recommenders += [str(model.name) for model in models]
            page = models.token
            if not page:
                return sorted(recommenders)

    def list_versions(self, name: str) -> list[Version]:
        """Return all versions of a recommender, oldest first; an empty list if nothing was registered."""
        aliases = read_aliases(self.client, name)
        records = self.client.search_model_versions(f"name = '{name}'", max_results=10_000)
        versions = [
            read_version(record, aliases, self._store, moves_with_store=self._moves_with_store) for record in records
        ]
        return sorted(versions, key=lambda version: int(version.version))

    def get_version(self, name: str, version: str) -> Version:
        """Return one version. Raises NotFoundError, which lists the versions that exist."""
        versions = self.list_versions(name)
        for candidate in versions:
            if candidate.version == str(version):
                return candidate
        numbers = [candidate.version for candidate in versions]
        raise NotFoundError(
            f"{name} has no version {version} in {self.uri}; there are: "
            f"{', '.join(numbers) or 'none; `endcap run` registers the first'}",
            code="registry.version-not-found",
            recommender=name,
            registry=self.uri,
            found=str(version),
            allowed=numbers,
        )

    def find_champion(self, name: str) -> Version | None:
        """Return the champion, which serves most shoppers and which others are compared with; None if there is none."""
        return self._find_by_alias(name, CHAMPION)

    def find_challenger(self, name: str) -> Version | None:
        """Return the challenger, the newest approved version that is not the champion yet; None if there is none."""
        return self._find_by_alias(name, CHALLENGER)

    def add_version(
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

        def find_or_create() -> str:
            for registered in self.list_versions(name):
                if registered.package == package:
                    # An earlier release registered versions without the digest.
                    if DIGEST_TAG in tags and DIGEST_TAG not in registered.tags:
                        self.client.set_model_version_tag(name, registered.version, DIGEST_TAG, tags[DIGEST_TAG])
                    return registered.version
            self._ensure_name(name)
            decided = {"state": state, "decided_by": "gate", "decided_when": _format_now(), "decided_why": why}
            all_tags = {**{key: value for key, value in tags.items() if value}, **decided}
            return str(self.client.create_model_version(name, package, run_id, tags=all_tags).version)

        with self.hold_decisions(name) as hold:
            hold.check()
            version = retry_lookup(find_or_create)
            self._settle(name, version, hold)
            return self.get_version(name, version)

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

    def reject(self, name: str, version: str, *, by: str, why: str, held: Hold | None = None) -> Version:
        """Record a person's rejection: the version loses the alias challenger.

        Parameters
        ----------
        name, version
            The recommender and the version's number.
        by, why
            Who decided, and the reason.
        held
            The caller's own hold on decisions about the recommender.

        Raises
        ------
        UserError
            The version is the champion.
        NotFoundError
            There is no such version.
        TransientError
            Another process is deciding on this recommender.
        """
        with hold_decision(name, self._store, self.uri, held) as hold:
            champion = self.find_champion(name)
            if champion and champion.version == str(version):
                raise UserError(
                    f"{name} version {version} is the champion; promote another version first",
                    code="registry.is-champion",
                    recommender=name,
                    version=str(version),
                )
            return self._decide(name, version, "rejected", by, why, hold)

    def promote(self, name: str, version: str, *, returns: bool = False, held: Hold | None = None) -> Version:
        """Make an approved version the champion.

        Parameters
        ----------
        name, version
            The recommender and the version's number.
        returns
            Whether the version was the champion before and comes back. The one that leaves is not noted then.
        held
            The caller's own hold on decisions about the recommender.

        Raises
        ------
        UserError
            The version is not approved.
        NotFoundError
            There is no such version.
        TransientError
            Another process is deciding on this recommender, or other software sets its aliases.
        """
        with hold_decision(name, self._store, self.uri, held) as hold:
            current, champion = self.get_version(name, version), self.find_champion(name)
            if current.state != "approved":
                raise UserError(
                    f"{name} version {version} is {current.state}; allowed: an approved version. Approve it first",
                    code="registry.not-approved",
                    recommender=name,
                    version=current.version,
                    found=current.state,
                )
            if champion is not None and champion.version != current.version and not returns:
                # Before the alias, or a kill in between would lose who was the champion before.
                hold.check()
                self.client.set_model_version_tag(name, current.version, _BEFORE_TAG, champion.version)
            set_alias(self.client, name, CHAMPION, current.version, hold)
            if CHALLENGER in current.aliases:
                drop_alias(self.client, name, CHALLENGER, hold)
            return self.get_version(name, version)

    def find_champion_before(self, name: str) -> Version | None:
        """Return the approved version that was the champion before the present one; None if it is not known."""
        versions = {version.version: version for version in self.list_versions(name)}
        champion = self.find_champion(name)
        passed, candidate = set[str](), champion
        while candidate is not None and candidate.version not in passed:
            passed.add(candidate.version)
            candidate = versions.get(candidate.tags.get(_BEFORE_TAG, ""))
            if candidate is not None and candidate.state == "approved" and candidate.version not in passed:
                return candidate
        return None

    def hold_decisions(self, name: str) -> contextlib.AbstractContextManager[Hold]:
        """Keep other processes from deciding on a recommender during a block; see `endcap.registry.decision_hold`."""
        return hold_decision(name, self._store, self.uri)

    def _decide(self, name: str, version: str, state: VersionState, by: str, why: str, hold: Hold) -> Version:
        current = self.get_version(name, version)
        # The state is written last, so that an approved version has its reasons even if this process is killed.
        decision = {"decided_by": by, "decided_when": _format_now(), "decided_why": why, "state": state}
        hold.check()
        for key, value in decision.items():
            self.client.set_model_version_tag(name, current.version, key, value)
        if state == "rejected" and CHALLENGER in current.aliases:
            drop_alias(self.client, name, CHALLENGER, hold)
        self._settle(name, current.version, hold)
        return self.get_version(name, version)

    def _settle(self, name: str, version: str, hold: Hold) -> None:
        """Give an approved version its alias, unless it got one before."""
        current = self.get_version(name, version)
        if current.state != "approved" or _SETTLED_TAG in current.tags:
            return
        alias = CHALLENGER if self.find_champion(name) else CHAMPION
        set_alias(self.client, name, alias, current.version, hold)
        self.client.set_model_version_tag(name, current.version, _SETTLED_TAG, "yes")

    def _find_by_alias(self, name: str, alias: str) -> Version | None:
        number = read_aliases(self.client, name).get(alias)
        return None if number is None else self.get_version(name, number)

    def _ensure_name(self, name: str) -> None:
        from mlflow.exceptions import MlflowException

        try:
            self.client.create_registered_model(name)
        except MlflowException as error:
            if error.error_code != "RESOURCE_ALREADY_EXISTS":
                raise


def _format_now() -> str:
    return datetime.now(UTC).isoformat(timespec="seconds")
