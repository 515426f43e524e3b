"""ModelRollout, the resource by which a cluster's users ask for a rollout and look at it.

Its spec says what is wished for. Its status repeats what the decision log says, and is made from the log alone, so one
that was edited or lost comes back.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any, Literal, Self

from endcap.cluster import Cluster, ForbiddenError, KindAbsentError, StaleError
from endcap.cluster.kinds import EVENT, MODEL_ROLLOUT
from endcap.errors import UserError
from endcap.experiments.evidence import EffectEvidence, RolloutEvidence
from endcap.experiments.log_entry import RolloutLogEntry
from endcap.experiments.rollout_state import GUARDED, Approval, RolloutState
from endcap.rollout.messages import describe_entry

Json = dict[str, Any]
Outcome = Literal["Decide", "Promote", "Abort"]
COMPONENT = "endcap-rollouts"
"""Who sends events."""
OUTDATED = "newer-version"
"""The code of a request that a newer one has overtaken before it began."""
_LONGEST_NOTE = 1000
"""Characters of an event's message. The API server refuses more than 1024."""
_STOPPED = frozenset({"paused", "holding", "waiting-approval"})


@dataclass(frozen=True)
class RolloutRequest:
    """What a ModelRollout asks for.

    Attributes
    ----------
    name, namespace, uid, generation
        Of the resource.
    created
        When it was made, by the API server's clock, UTC.
    recommender, version
        What is to be rolled out. Neither can be changed.
    paused
        True: the share stays as it is. False: it goes on. None: nobody asks by this resource.
    approved
        What a person agrees to: `start`, `promotion`. It may be given before it is waited for.
    outcome
        Decide: shoppers decide. Promote: everyone gets the version. Abort: nobody does.
    why
        The reason, for the log.
    status
        The status that the resource has now.
    """

    name: str
    namespace: str
    uid: str
    generation: int
    created: datetime
    recommender: str
    version: str
    paused: bool | None = None
    approved: tuple[Approval, ...] = ()
    outcome: Outcome = "Decide"
    why: str = ""
    status: Mapping[str, Any] = field(default_factory=dict)

    @classmethod
    def from_object(cls, thing: Json) -> Self:
        """Read a resource that the API server has checked by its schema."""
        metadata, spec = thing["metadata"], thing["spec"]
        return cls(
            name=metadata["name"],
            namespace=metadata["namespace"],
            uid=metadata["uid"],
            generation=metadata.get("generation", 0),
            created=datetime.fromisoformat(metadata["creationTimestamp"]),
            recommender=spec["recommender"],
            version=spec["version"],
            paused=spec.get("paused"),
            approved=tuple(spec.get("approved") or ()),
            outcome=spec.get("outcome") or "Decide",
            why=spec.get("why") or "",
            status=thing.get("status") or {},
        )

    @property
    def asker(self) -> str:
        """Who gives this resource's commands, for the log."""
        return f"ModelRollout {self.namespace}/{self.name}"


@dataclass(frozen=True)
class RolloutStanding:
    """What the decision log says of a request.

    Attributes
    ----------
    entries
        The rollout's entries, oldest first; none before it has begun.
    is_latest
        Whether no later rollout of the recommender has begun.
    metric
        The metric that decides.
    """

    entries: Sequence[RolloutLogEntry] = ()
    is_latest: bool = True
    metric: str = ""

    @property
    def state(self) -> RolloutState | None:
        """Where the rollout stands; None before it has begun."""
        return self.entries[-1].after if self.entries else None

    @property
    def evidence(self) -> RolloutEvidence | None:
        """What the last look told."""
        return next((entry.evidence for entry in reversed(self.entries) if entry.evidence is not None), None)

    @property
    def deciding(self) -> EffectEvidence | None:
        """The last known effect on the metric that decides: after a promotion nothing is known at first of another."""
        looks = (entry.evidence.effects for entry in reversed(self.entries) if entry.evidence is not None)
        effects = [effect for look in looks for effect in look if effect.metric == self.metric]
        return next(filter(_is_known, effects), effects[0] if effects else None)


@dataclass(frozen=True)
class Obstacle:
    """Why something is not so: a code of Endcap's, and a sentence."""

    code: str
    sentence: str


def make_resource(recommender: str, version: str, namespace: str) -> Json:
    """Make the ModelRollout that asks for a version's rollout. Its name is the only one that it may have."""
    return {
        "apiVersion": MODEL_ROLLOUT.api_version,
        "kind": MODEL_ROLLOUT.name,
        "metadata": {
            "name": f"{recommender}-{version}",
            "namespace": namespace,
            "labels": {"app.kubernetes.io/managed-by": "endcap", "endcap.dev/recommender": recommender},
        },
        "spec": {"recommender": recommender, "version": version},
    }


def ask_for_rollout(cluster: Cluster, recommender: str, version: str, namespace: str) -> str:
    """Ask a cluster for the rollout of a version. To ask again changes nothing.

    Parameters
    ----------
    cluster, namespace
        Where the version is to be rolled out.
    recommender, version
        What is rolled out.

    Returns
    -------
    str
        The resource's name.

    Raises
    ------
    UserError
        The cluster takes no ModelRollouts there.
    UnreachableError
        The API server does not answer.
    """
    resource = make_resource(recommender, version, namespace)
    try:
        cluster.create(resource)
    except StaleError:
        # An earlier try of this step, or a person, has asked already.
        pass
    except (ForbiddenError, KindAbsentError) as error:
        raise UserError(
            f"namespace {namespace} takes no ModelRollout for version {version} of {recommender}, whose spec has a "
            f"section rollout ({error}). Install the chart with rollouts.enabled=true, or leave out the section",
            code="rollout.no-cluster-rollouts",
            recommender=recommender,
            version=version,
            namespace=namespace,
            reason=str(error),
        ) from None
    return str(resource["metadata"]["name"])


def make_status(
    request: RolloutRequest,
    standing: RolloutStanding,
    now: datetime,
    *,
    refused: Obstacle | None = None,
    unserved: Obstacle | None = None,
    stuck: Obstacle | None = None,
) -> Json:
    """Make the status of a resource.

    Parameters
    ----------
    request
        The resource.
    standing
        What the log says.
    now
        For conditions that change, UTC.
    refused
        Why the request is not carried out, or waits.
    unserved
        Why the cluster does not serve the desired state yet.
    stuck
        Why nobody could look.
    """
    state, evidence = standing.state, standing.evidence
    status: Json = {"observedGeneration": request.generation}
    if state is None:
        obstacle = refused or Obstacle("waiting", "The controller has not taken it up yet.")
        phase = "superseded" if refused is not None and refused.code == OUTDATED else "pending"
        status |= {"phase": phase, "reason": obstacle.code, "message": obstacle.sentence}
        facts = [("Accepted", "False" if refused else "Unknown", obstacle)]
        status["conditions"] = _make_conditions(facts, request, now)
        return status
    last = standing.entries[-1]
    phase, reason, sentence = _describe_standing(request, standing)
    share = state.share if state.version == request.version and phase != "superseded" else 0.0
    status |= {
        "phase": phase,
        "share": round(share, 6),
        "sharePercent": f"{100 * share:.4g} %",
        "reason": reason,
        "message": sentence[:_LONGEST_NOTE],
        "previousVersion": state.previous_version,
        "began": format_time(state.created),
        "entry": last.number,
    }
    if state.looked is not None:
        status["looked"] = format_time(state.looked)
    if evidence is not None:
        status["effects"] = [_describe_effect(entry) for entry in evidence.effects]
        if (deciding := standing.deciding) is not None:
            status["effect"] = _describe_effect(deciding)["text"]
    status["conditions"] = _make_conditions(
        _judge_conditions(phase, reason, sentence, refused, unserved, stuck), request, now
    )
    return status


def make_events(request: RolloutRequest, standing: RolloutStanding) -> list[Json]:
    """Make the Kubernetes events of the steps that the resource's status does not have yet.

    An event's name follows from the step, so one that is sent again is the same one.
    """
    known = request.status.get("entry")
    state = standing.state
    if state is not None and request.status.get("began") != format_time(state.created):
        known = None
    events = []
    for entry in standing.entries:
        message = describe_entry(entry) if known is None or entry.number > known else None
        if message is not None:
            kind = "Warning" if message.alert else "Normal"
            events.append(_make_event(request, f"{entry.number}", message.reason, message.sentence, kind, entry.time))
    return events


def make_obstacle_event(request: RolloutRequest, obstacle: Obstacle, now: datetime) -> Json:
    """Make the Kubernetes event of an obstacle."""
    return _make_event(request, obstacle.code.replace(".", "-"), obstacle.code, obstacle.sentence, "Warning", now)


def format_time(moment: datetime) -> str:
    """Return a moment as Kubernetes writes times, to the microsecond."""
    return moment.astimezone(UTC).isoformat(timespec="microseconds").replace("+00:00", "Z")


def name_reason(code: str) -> str:
    """Return a code as a condition's reason: `no-feed` is NoFeed, `deploy.not-ready` is DeployNotReady."""
    return "".join(word[:1].upper() + word[1:] for word in code.replace(".", "-").split("-")) or "Unknown"


def _describe_standing(request: RolloutRequest, standing: RolloutStanding) -> tuple[str, str, str]:
    """Return phase, reason and sentence of a rollout that has begun, as its resource shows them."""
    state, last = standing.state, standing.entries[-1]
    assert state is not None
    if state.version != request.version:
        return "superseded", "refreshed", f"Version {state.version} of the same recipe took its place and its evidence."
    if state.phase in GUARDED and not standing.is_latest:
        return "promoted", state.reason, "Everyone got the version. A later rollout has begun."
    if last.decision is not None:
        return state.phase, last.decision.reason, last.decision.sentence
    if last.command is not None:
        why = f" ({last.command.why})" if last.command.why else ""
        return state.phase, state.reason, f"{last.command.action} by {last.command.by}{why}."
    return state.phase, state.reason, "The rollout begins."


def _judge_conditions(
    phase: str,
    reason: str,
    sentence: str,
    refused: Obstacle | None,
    unserved: Obstacle | None,
    stuck: Obstacle | None,
) -> list[tuple[str, str, Obstacle]]:
    here = Obstacle(reason, sentence)
    ended = phase in ("rolled-back", "aborted", "superseded")
    promoted = "True" if phase in GUARDED else "False" if ended else "Unknown"
    moves = "False" if stuck or ended or phase in _STOPPED else "True"
    return [
        ("Accepted", "False" if refused else "True", refused or Obstacle("began", "The rollout has begun.")),
        ("Progressing", moves, stuck or here),
        ("Served", "False" if unserved else "True", unserved or Obstacle("served", "The cluster serves the shares.")),
        ("Promoted", promoted, here),
    ]


def _make_conditions(facts: list[tuple[str, str, Obstacle]], request: RolloutRequest, now: datetime) -> list[Json]:
    before = {entry["type"]: entry for entry in request.status.get("conditions") or []}
    conditions = []
    for kind, value, obstacle in facts:
        same = before.get(kind, {}).get("status") == value
        conditions.append(
            {
                "type": kind,
                "status": value,
                "reason": name_reason(obstacle.code),
                "message": obstacle.sentence[:_LONGEST_NOTE],
                "observedGeneration": request.generation,
                "lastTransitionTime": before[kind]["lastTransitionTime"]
                if same
                else now.astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%SZ"),
            }
        )
    return conditions


def _is_known(effect: EffectEvidence) -> bool:
    return math.isfinite(effect.lower) and math.isfinite(effect.upper)


def _describe_effect(effect: EffectEvidence) -> Json:
    """Return an effect for the status: per cent as text, since JSON has no infinity."""
    known = _is_known(effect)
    band = f" ({100 * effect.lower:+.3g}, {100 * effect.upper:+.3g})" if known else ""
    return {
        "metric": effect.metric,
        "text": f"{100 * effect.effect:+.3g} %{band}" if known else "unknown",
        "shoppers": {arm: int(count) for arm, count in effect.shoppers.items()},
    }


def _make_event(request: RolloutRequest, name: str, reason: str, sentence: str, kind: str, moment: datetime) -> Json:
    seconds = moment.astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
    return {
        "apiVersion": EVENT.api_version,
        "kind": EVENT.name,
        "metadata": {"name": f"{request.name}.{request.uid[:8]}.{name.lower()}", "namespace": request.namespace},
        "involvedObject": {
            "apiVersion": MODEL_ROLLOUT.api_version,
            "kind": MODEL_ROLLOUT.name,
            "name": request.name,
            "namespace": request.namespace,
            "uid": request.uid,
        },
        "reason": name_reason(reason),
        "message": sentence[:_LONGEST_NOTE],
        "type": kind,
        "count": 1,
        "firstTimestamp": seconds,
        "lastTimestamp": seconds,
        "source": {"component": COMPONENT},
        "reportingComponent": COMPONENT,
        "reportingInstance": COMPONENT,
        "action": "Rollout",
    }
