"""Put a registered version into the desired state."""

from __future__ import annotations

from datetime import UTC, datetime
from functools import partial
from typing import NamedTuple

from endcap.deploy.gateway_settings import GatewaySettings, make_settings
from endcap.deploy.popularity import make_baseline
from endcap.deploy.state import CanaryTarget, Deployment, Target, change_state, make_ab_error, make_salt, previous_state
from endcap.errors import UserError
from endcap.experiments.exclusion import refuse_during_rollout, refuse_unfinished_step
from endcap.registry import Version, open_registry
from endcap.spec import Recommender
from endcap.store import Store


def deploy(
    recommender: Recommender,
    version: str,
    store: Store,
    registry_uri: str | None = None,
    *,
    end_canary: bool = False,
) -> Deployment | None:
    """Serve a version: the champion to everyone, another version to the canary's share beside the champion.

    Parameters
    ----------
    recommender
        Its spec.
    version
        The registered version's number.
    store
        The store that holds the desired state.
    registry_uri
        MLflow's address; None: the environment's, else the store's own.
    end_canary
        End another canary when the champion is deployed.

    Returns
    -------
    Deployment or None
        The desired state; None if there is none yet.

    Raises
    ------
    NotFoundError
        There is no such version.
    UserError
        The version was rejected, or there is no champion; a rollout runs and the version is not the champion
        (``rollout.runs``), a step of it is half done (``rollout.step-unfinished``), or an A/B test of other versions
        runs (``deploy.ab-runs``).
    TransientError
        Someone else has held the recommender's lock in the registry for minutes.

    Notes
    -----
    The call is idempotent: a canary keeps its present share, and stays if the champion is deployed again. So does the
    previous version as long as the champion stays, unless the challenger's share leaves no room for it. A version
    that waits for approval changes nothing either. A lock in the registry is held until the state is written, so
    nobody can promote, approve, reject or deploy a version of the recommender meanwhile.
    """
    registry = open_registry(registry_uri, store)
    candidate, champion = registry.get_version(recommender.name, version), registry.find_champion(recommender.name)
    beside = None
    if champion is not None and candidate.state == "approved":
        # This may download a package, so it runs before the lock, which would keep others from decisions.
        beside = _make_beside(recommender, champion.package, store)
    with registry.hold_decisions(recommender.name) as hold:
        refuse_unfinished_step(recommender.name, store, f"deploying version {version}")
        candidate = registry.get_version(recommender.name, version)
        if candidate.state == "pending":
            return previous_state(recommender.name, store)
        if candidate.state == "rejected":
            raise UserError(
                f"{candidate.name} version {candidate.version} was rejected by {candidate.by} ({candidate.why}). "
                f"To approve it nevertheless: `endcap registry approve {candidate.name} {candidate.version}`",
                code="deploy.version-rejected",
                recommender=candidate.name,
                version=candidate.version,
                by=candidate.by,
                why=candidate.why,
            )
        before, champion = champion, registry.find_champion(recommender.name)
        if champion is None:
            raise UserError(
                f"{candidate.name} has no champion. To make this version the champion: "
                f"`endcap registry promote {candidate.name} {candidate.version}`",
                code="deploy.no-champion",
                recommender=candidate.name,
                version=candidate.version,
            )
        if beside is None or before is None or champion.package != before.package:
            beside = _make_beside(recommender, champion.package, store)
        if end_canary or candidate.version != champion.version:
            refuse_during_rollout(recommender.name, store, f"deploying version {version}")
        hold.check()
        change = partial(_change_deployment, recommender, candidate, champion, beside, end_canary=end_canary)
        return change_state(recommender.name, store, change, repair=True)


def _keep_ab(before: Deployment, candidate: Version, champion: Version, beside: _Beside) -> Deployment:
    """Return the state during an A/B test. Raises UserError if another version than its own is to serve."""
    if before.stable.version != champion.version or candidate.version not in [
        target.version for target in before.answering
    ]:
        raise make_ab_error(before)
    return before.model_copy(update={"terms": beside.terms, "baseline": beside.baseline})


class _Beside(NamedTuple):
    """What follows from the champion's package: the gateway's settings, and the baseline."""

    terms: GatewaySettings
    baseline: CanaryTarget | None


def _make_beside(recommender: Recommender, package: str, store: Store) -> _Beside:
    return _Beside(make_settings(recommender, package, store), make_baseline(recommender, package, store))


def _change_deployment(
    recommender: Recommender,
    candidate: Version,
    champion: Version,
    beside: _Beside,
    before: Deployment | None,
    *,
    end_canary: bool,
) -> Deployment:
    """Make the desired state that follows `before`."""
    if before is not None and before.ab is not None:
        return _keep_ab(before, candidate, champion, beside)
    desired = _make_desired_state(recommender, candidate, champion, before, beside)
    if before is not None and before.canary and desired.canary is None and not end_canary:
        # The retry of an old run must not end the rollout of a newer version.
        return before if before.stable == desired.stable else desired
    return desired


def _make_desired_state(
    recommender: Recommender, candidate: Version, champion: Version, before: Deployment | None, beside: _Beside
) -> Deployment:
    canary, salt = None, make_salt(recommender.name, candidate.version)
    if candidate.version != champion.version:
        under_way = before.canary if before else None
        share = recommender.serving.canary.share
        if (
            before is not None
            and under_way is not None
            and (under_way.version, under_way.package) == (candidate.version, candidate.package)
        ):
            share, salt = under_way.share, before.salt
        canary = CanaryTarget(version=candidate.version, package=candidate.package, share=share)
    previous = _keep_previous(before, champion, canary)
    if before is not None and previous is not None and canary is None:
        # Another salt would give its share to other shoppers.
        salt = before.salt
    shadow = before.shadow if before else None
    if shadow is not None and shadow.version in (candidate.version, champion.version):
        # It answers now.
        shadow = None
    return Deployment(
        recommender=recommender.name,
        stable=Target(version=champion.version, package=champion.package),
        canary=canary,
        previous=previous,
        baseline=beside.baseline,
        # Whoever threw the switch takes it back, and not the next version.
        switch=before.switch if before else None,
        withdrawn=before.withdrawn if before else None,
        shadow=shadow,
        terms=beside.terms,
        salt=salt,
        changed=datetime.now(UTC),
    )


def _keep_previous(before: Deployment | None, champion: Version, canary: CanaryTarget | None) -> CanaryTarget | None:
    """Return the previous version if it goes on: the champion is the same, and the canary leaves its share free."""
    if before is None or before.previous is None or before.stable.version != champion.version:
        return None
    previous = before.previous
    if canary is not None and (canary.version == previous.version or canary.share + previous.share > 1):
        return None
    return previous
