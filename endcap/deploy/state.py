"""The desired state of serving: one small document a recommender, written by `deploy`, watched by the server."""

from __future__ import annotations

import contextlib
from datetime import UTC, datetime
from typing import Annotated

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from endcap.deploy.terms import USUAL, Terms
from endcap.errors import IntegrityError, NotFoundError, UserError
from endcap.spec.base import Name, Share, suggest
from endcap.store import Store, fingerprint


class _Part(BaseModel):
    # Documents are JSON, where a time is text: not strict in types, strict in keys.
    model_config = ConfigDict(extra="forbid", frozen=True, use_attribute_docstrings=True)


class Target(_Part):
    """A version to serve."""

    version: str
    package: str
    """Its package's address in the store."""


class CanaryTarget(Target):
    share: Share
    """Of the shoppers, 0 to 1."""


class ShadowTarget(Target):
    share: Share
    """Of the requests that are copied to it, 0 to 1; nobody sees its answers."""


class Deployment(_Part):
    """What is to be served: a stable version for everyone, or for everyone but the canary's share."""

    recommender: Name
    stable: Target
    canary: CanaryTarget | None = None
    shadow: ShadowTarget | None = None
    salt: Annotated[str, Field(pattern=r"^[0-9a-f]+$")]
    """Goes into the hash of the shopper's id: the same through a rollout, another in the next."""
    terms: Terms = USUAL
    changed: datetime
    """UTC."""
    since: dict[str, datetime] = Field(default_factory=dict)
    """When each version that is to be served first was, UTC. A version that an earlier release deployed has none."""

    @property
    def targets(self) -> list[Target]:
        """Stable, canary and shadow, as far as there are any."""
        return [target for target in (self.stable, self.canary, self.shadow) if target is not None]


def document_name(recommender: str) -> str:
    return f"deployments/{recommender}"


def deployed_names(store: Store) -> list[str]:
    """The recommenders that have a desired state, an empty one too, by name."""
    return sorted(name.removeprefix("deployments/") for name in store.list_documents("deployments"))


def salt_of(recommender: str, version: str) -> str:
    """The salt of a version's rollout, so that not the same shoppers meet every canary."""
    return fingerprint("rollout", recommender, version)


def find_state(recommender: str, store: Store) -> Deployment | None:
    """The desired state, or None where nothing was ever deployed. Raises IntegrityError where it cannot be read.

    Raises UserError where a newer release wrote it: it is not replaced then.
    """
    name = document_name(recommender)
    try:
        document = store.read_document(name)
        # An empty one says that nothing is to be served.
        return None if document is None or document == {} else Deployment.model_validate(document)
    except ValidationError as error:
        first = error.errors(include_url=False)[0]
        cause = f"{'.'.join(map(str, first['loc'])) or 'the document'}: {first['msg']}"
    except (ValueError, IntegrityError) as error:
        cause = str(error)
    raise IntegrityError(
        f"{name} in {store.root} cannot be read ({cause}); deploy again",
        code="deploy.state-damaged",
        document=name,
        store=store.root,
        reason=cause,
    )


def read_state(recommender: str, store: Store) -> Deployment:
    """The desired state. Raises NotFoundError where nothing was ever deployed."""
    state = find_state(recommender, store)
    if state is None:
        known = deployed_names(store)
        near = suggest(recommender, known)
        raise NotFoundError(
            f"nothing is deployed for {recommender!r} in {store.root}; `endcap run` of its spec trains and deploys"
            f"{f'. {near}' if near else ''}",
            code="deploy.not-deployed",
            recommender=recommender,
            store=store.root,
            known=known,
        )
    return state


def previous_state(recommender: str, store: Store) -> Deployment | None:
    """The state that a new one replaces: one that cannot be read is as good as none."""
    try:
        return find_state(recommender, store)
    except IntegrityError:
        return None


def write_state(state: Deployment, store: Store) -> Deployment:
    """Make it the desired state, with the present time; a state that is there already is left as it is."""
    before = previous_state(state.recommender, store)
    now = datetime.now(UTC)
    state = state.model_copy(update={"since": _since(state, before, now)})
    if before is not None and before.model_copy(update={"changed": state.changed}) == state:
        return before
    state = state.model_copy(update={"changed": now})
    store.write_document(document_name(state.recommender), state.model_dump(mode="json"))
    return state


def _since(state: Deployment, before: Deployment | None, now: datetime) -> dict[str, datetime]:
    """Since when each of the state's versions is served: what was served before keeps its time."""
    known = before.since if before else {}
    served = {target.version for target in before.targets} if before else set()
    new = {target.version: now for target in state.targets if target.version not in served}
    return {target.version: known[target.version] for target in state.targets if target.version in known} | new


def forget_state(recommender: str, store: Store) -> None:
    """Want nothing served any more. Raises NotFoundError where nothing was."""
    with contextlib.suppress(IntegrityError):  # What cannot be read is forgotten as well.
        read_state(recommender, store)
    store.write_document(document_name(recommender), {})


def set_share(recommender: str, share: float, store: Store) -> Deployment:
    """Give the canary another share of the shoppers, from 0 to 1. Raises UserError where there is no canary."""
    state = read_state(recommender, store)
    if state.canary is None:
        raise UserError(
            f"{recommender} has no canary: version {state.stable.version} serves everyone; deploy a challenger",
            code="deploy.no-canary",
            recommender=recommender,
            stable=state.stable.version,
        )
    if not 0 <= share <= 1:
        raise UserError(
            f"share: found {share}; allowed: 0 to 1, such as 0.1 for a tenth of the shoppers",
            code="deploy.share-out-of-range",
            of="canary",
            found=str(share),
        )
    canary = state.canary.model_copy(update={"share": share})
    return write_state(state.model_copy(update={"canary": canary}), store)


def set_shadow(recommender: str, shadow: Target | None, share: float, store: Store) -> Deployment:
    """Copy a share of the requests, from 0 to 1, to a version beside those that answer; None: to nobody any more.

    Raises UserError where it answers already.
    """
    state = read_state(recommender, store)
    wanted = None
    if shadow is not None:
        if not 0 < share <= 1:
            raise UserError(
                f"shadow share: found {share}; allowed: above 0 to 1, such as 0.1 for a tenth of the requests",
                code="deploy.share-out-of-range",
                of="shadow",
                found=str(share),
            )
        if shadow.version in (state.stable.version, state.canary.version if state.canary else None):
            raise UserError(
                f"version {shadow.version} of {recommender} answers shoppers already; a shadow is another version",
                code="deploy.shadow-answers",
                recommender=recommender,
                version=shadow.version,
            )
        wanted = ShadowTarget(version=shadow.version, package=shadow.package, share=share)
    return write_state(state.model_copy(update={"shadow": wanted}), store)


def describe(state: Deployment | None, version: str | None = None) -> str:
    """One line: which version serves which share; and that `version`, which `deploy` was asked for, waits if it does.

    state: what `deploy` returned. A version that waits for a person is the only one that it leaves out.
    """
    if state is None:
        served, versions = "nothing is deployed", []
    elif state.canary is None:
        served, versions = f"version {state.stable.version} serves everyone", [state.stable.version]
    else:
        stable, canary = state.stable, state.canary
        shares = f"{1 - canary.share:.4g} of the shoppers, {canary.version} {canary.share:.4g}"
        served = f"version {stable.version} serves {shares}"
        versions = [stable.version, canary.version]
    if state is not None and state.shadow is not None:
        served += f"; {state.shadow.share:.4g} of the requests are copied to version {state.shadow.version}"
        versions.append(state.shadow.version)
    waits = version is not None and version not in versions
    return f"{served}; version {version} waits for a person's approval" if waits else served
