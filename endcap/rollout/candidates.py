"""What a rollout may be about: the registered versions of a recommender, and what their packages say of them."""

from __future__ import annotations

from endcap.errors import NotFoundError, TransientError, UserError
from endcap.registry import Registry, Version, open_registry
from endcap.registry.package import read_recommender
from endcap.retries import disable_retries
from endcap.spec.rollout import RolloutSpec
from endcap.store import Store

_RECIPE = {"classes", "preprocessing", "model", "search", "training", "split", "exclude", "refit", "seed"}
"""The sections of a spec that make the model."""


class Candidates:
    """Reads the versions of one recommender, and refuses those that cannot be served.

    Parameters
    ----------
    store
        Holds the packages.
    recommender
        Its name.
    registry_uri
        MLflow's address; None: the store's own.
    """

    def __init__(self, store: Store, recommender: str, registry_uri: str | None = None) -> None:
        self._store, self._recommender, self._registry_uri = store, recommender, registry_uri

    def open_registry(self) -> Registry:
        """Open the registry. The first call of a process takes seconds: make it before you hold what others need."""
        return open_registry(self._registry_uri, self._store)

    def get_version(self, version: str) -> Version:
        """Return a version; NotFoundError if there is no such one."""
        return self.open_registry().get_version(self._recommender, version)

    def list_versions(self) -> list[Version]:
        """List all versions, in whatever state."""
        return self.open_registry().list_versions(self._recommender)

    def find_newest(self) -> Version | None:
        """Return the version that was registered last, in whatever state; None if there is none."""
        return max(self.list_versions(), key=lambda entry: int(entry.version), default=None)

    def has_vanished(self, version: str) -> bool:
        """Tell whether the registry lacks a version. One that does not answer at once says nothing."""
        try:
            with disable_retries():
                self.get_version(version)
        except NotFoundError:
            return True
        except TransientError:
            return False
        return False

    def require_champion(self, version: str) -> Version:
        """Return the champion, which a version is compared with; UserError (``rollout.no-champion``) without one."""
        champion = self.open_registry().find_champion(self._recommender)
        if champion is None:
            raise UserError(
                f"{self._recommender} has no champion to compare version {version} with. To make it the champion: "
                f"endcap registry promote {self._recommender} {version}",
                code="rollout.no-champion",
                recommender=self._recommender,
                version=version,
            )
        return champion

    def require_champion_before(self, champion: Version) -> Version:
        """Return the champion before; UserError (``rollout.no-champion-before``) if it is not known."""
        before = self.open_registry().find_champion_before(self._recommender)
        if before is None:
            raise UserError(
                f"{self._recommender}: it is not known which version was the champion before version "
                f"{champion.version}. Name the version that shall come back: endcap registry rollback "
                f"{self._recommender} VERSION. `endcap registry list {self._recommender}` shows them",
                code="rollout.no-champion-before",
                recommender=self._recommender,
                champion=champion.version,
            )
        return before

    def refuse_unfit(self, candidate: Version, champion: Version) -> None:
        """Raise UserError (``rollout.version-unfit``) unless a version is approved, and not the champion."""
        cause = ""
        if candidate.version == champion.version:
            cause = "it is the champion already"
        elif candidate.state != "approved":
            cause = f"it is {candidate.state}"
        if cause:
            raise UserError(
                f"version {candidate.version} of {self._recommender} cannot be served: {cause}; allowed: an "
                f"approved version that is not the champion. `endcap registry list {self._recommender}` shows them",
                code="rollout.version-unfit",
                recommender=self._recommender,
                version=candidate.version,
                found=candidate.state,
            )

    def find_policy(self, package: str) -> RolloutSpec | None:
        """Return the policy in a package; None if its spec has no section `rollout`."""
        return read_recommender(self._store.fetch(package)).rollout

    def require_policy(self, package: str, version: str) -> RolloutSpec:
        """Return the policy in a version's package; UserError (``rollout.no-policy``) without one."""
        policy = self.find_policy(package)
        if policy is None:
            raise UserError(
                f"version {version} of {self._recommender} was trained by a spec without a section rollout. Add "
                "`rollout: {}` and run again, or give it a share by hand: endcap deploy",
                code="rollout.no-policy",
                recommender=self._recommender,
                version=version,
            )
        return policy

    def read_recipe(self, package: str) -> str:
        """Return what a version's model was made by, apart from the data, as text that is the same for the same."""
        return read_recommender(self._store.fetch(package)).model_dump_json(include=_RECIPE)
