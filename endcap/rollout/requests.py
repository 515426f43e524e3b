"""What ModelRollouts ask for, brought into the decision log, which alone says where a rollout stands.

Each function compares what is wished for with what the log says, and does what is missing. So it may be repeated, and
whoever comes after a kill goes on.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any

from endcap.errors import EndcapError, TransientError, UserError
from endcap.experiments.decision_log import DecisionLog
from endcap.experiments.log_entry import RolloutLogEntry
from endcap.experiments.rollout_state import GUARDED, RolloutCommand, RolloutState
from endcap.rollout.controller import RolloutController
from endcap.rollout.resource import OUTDATED, Obstacle, RolloutRequest, RolloutStanding
from endcap.rollout.version_queue import VersionQueue
from endcap.store import Store

Json = dict[str, Any]
PATIENCE = timedelta(seconds=30)
"""After which a request that was refused is tried again, if it has not changed."""


@dataclass(frozen=True)
class _RefusedRequest:
    """A request that was refused, and when."""

    generation: int
    obstacle: Obstacle
    moment: datetime


class RequestDesk:
    """Takes the requests of one recommender.

    Parameters
    ----------
    store
        Holds the log.
    controller
        Drives the recommender's rollouts.
    identity
        Names whoever watches over the same resources. A deletion counts for what it has seen itself.
    """

    def __init__(self, store: Store, controller: RolloutController, identity: str) -> None:
        self._store, self._controller, self._identity = store, controller, identity
        self._recommender = controller.log.recommender
        self._refusals: dict[str, _RefusedRequest] = {}
        self._standings: dict[str, tuple[int, RolloutStanding]] = {}
        self._document = f"rollouts/{self._recommender}/requests"
        self._notes: dict[str, dict[str, str]] = {}

    def take(self, requests: Sequence[RolloutRequest], now: datetime | None = None) -> dict[str, Obstacle]:
        """Do what the requests ask for and the log does not have yet.

        Parameters
        ----------
        requests
            All of the recommender.
        now
            The present moment, UTC.

        Returns
        -------
        dict
            By a request's uid, why it is not carried out, or waits.

        Raises
        ------
        TransientError
            Store or registry do not answer.
        """
        now = now or datetime.now(UTC)
        self._read_notes()
        self._abort_deleted(requests)
        self._note(requests)
        obstacles: dict[str, Obstacle] = {}
        standings = self.find_standings(requests)
        waiting = [request for request in requests if standings[request.uid].state is None]
        for request in waiting:
            if (obstacle := self._find_hindrance(request, requests)) is not None or (
                obstacle := self._try(request, self._begin, now)
            ) is not None:
                obstacles[request.uid] = obstacle
        last = self._controller.log.find_last()
        for request in requests:
            if last is None or last.after.is_over or last.after.version != request.version:
                continue
            if request.uid not in obstacles and (obstacle := self._try(request, self._command, now)) is not None:
                obstacles[request.uid] = obstacle
        self._note(requests)
        return obstacles

    def find_standings(self, requests: Sequence[RolloutRequest]) -> dict[str, RolloutStanding]:
        """Return what the log says of each request, by its uid."""
        last = self._controller.log.find_last()
        if last is None:
            return {request.uid: RolloutStanding() for request in requests}
        standings = {}
        for request in requests:
            number, standing = self._standings.get(request.uid, (-1, RolloutStanding()))
            if number != last.number:
                standing = find_standing(self._controller.log, last, request, self._read_begun(request))
            standings[request.uid] = standing
        self._standings = {uid: (last.number, standing) for uid, standing in standings.items()}
        return standings

    def _abort_deleted(self, requests: Sequence[RolloutRequest]) -> None:
        """Abort a running rollout whose resource is gone."""
        last = self._controller.log.find_last()
        if last is None or not _is_running(last.after):
            return
        note = self._notes.get(last.after.version)
        if note is not None and note["uid"] not in {request.uid for request in requests}:
            self._controller.command(RolloutCommand("abort", "endcap", "its ModelRollout was deleted"))

    def _read_notes(self) -> None:
        document = self._store.read_document(self._document) or {}
        self._notes = document.get("requests") or {} if document.get("by") == self._identity else {}

    def _note(self, requests: Sequence[RolloutRequest]) -> None:
        """Note the resources that are there, by their version, and when the rollout of each began.

        They are noted before anything is done for them: so a deletion is noticed even if nobody watched meanwhile. When
        a rollout began is its identity, and no clock of the API server's is compared with ours.
        """
        standings = self.find_standings(requests)
        notes = {
            request.version: {"uid": request.uid, "began": _name_begin(standings[request.uid])} for request in requests
        }
        if notes != self._notes:
            document = {"by": self._identity, "requests": notes}
            self._store.update_document(self._document, lambda before: document)
            self._notes = notes

    def _read_begun(self, request: RolloutRequest) -> str:
        note = self._notes.get(request.version)
        return note["began"] if note is not None and note["uid"] == request.uid else ""

    def _find_hindrance(self, request: RolloutRequest, requests: Sequence[RolloutRequest]) -> Obstacle | None:
        """Return why a request cannot begin, without asking store or registry for more."""
        if request.outcome == "Abort":
            return Obstacle("aborted", "It was aborted before it began.")
        newer = max(requests, key=_make_age_key)
        if newer.uid != request.uid:
            sentence = f"{newer.name} was asked for later, so version {request.version} is not rolled out any more."
            return Obstacle(OUTDATED, sentence)
        last = self._controller.log.find_last()
        if last is not None and last.after.created > request.created and int(last.after.version) > int(request.version):
            sentence = f"A rollout of version {last.after.version} began after this was asked for."
            return Obstacle(OUTDATED, sentence)
        return None

    def _begin(self, request: RolloutRequest) -> Obstacle | None:
        last = self._controller.log.find_last()
        if last is None or not _is_running(last.after):
            self._controller.start(request.version)
        elif VersionQueue(self._controller).offer(request.version) is None:
            sentence = f"It waits for the end of the rollout of version {last.after.version}."
            return Obstacle("waits-for-rollout", sentence)
        return None

    def _command(self, request: RolloutRequest) -> Obstacle | None:
        """Give the commands that lead from where the rollout stands to what the request says."""
        for action in self._list_commands(request):
            self._controller.command(RolloutCommand(action, request.asker, request.why))
        state = self._read_state()
        if request.outcome == "Promote" and state.phase not in GUARDED and not state.is_over:
            return Obstacle("not-started", "It is promoted once it has its first share: a version must serve first.")
        return None

    def _list_commands(self, request: RolloutRequest) -> Iterator[Any]:
        """Yield one command after another, each by what the log says after the one before."""
        if request.outcome == "Abort":
            yield "abort"
            return
        state = self._read_state()
        if request.outcome == "Promote" and state.phase not in GUARDED and state.started is not None:
            yield "promote"
        state = self._read_state()
        if state.phase in GUARDED:
            return
        if state.phase == "waiting-approval" and state.awaited in set(request.approved) - set(state.approved):
            yield "approve"
            state = self._read_state()
        if request.paused is True and state.phase != "paused":
            yield "pause"
        elif request.paused is False and state.phase == "paused":
            yield "resume"

    def _read_state(self) -> RolloutState:
        last = self._controller.log.find_last()
        assert last is not None
        return last.after

    def _try(self, request: RolloutRequest, act: Any, now: datetime) -> Obstacle | None:
        """Do something for a request. What was refused is tried again when the request changes, or after a while."""
        refusal = self._refusals.get(request.uid)
        is_fresh = refusal is not None and refusal.generation == request.generation
        if refusal is not None and is_fresh and now - refusal.moment < PATIENCE:
            return refusal.obstacle
        self._refusals.pop(request.uid, None)
        try:
            obstacle: Obstacle | None = act(request)
        except TransientError:
            raise
        except UserError as error:
            if error.code in ("experiments.rollout-runs", "ab.runs"):
                # Another rollout has begun since this function read the log, or an A/B test runs.
                return Obstacle("waits-for-rollout", str(error))
            obstacle = Obstacle(error.code, str(error))
        except EndcapError as error:
            obstacle = Obstacle(error.code, str(error))
        else:
            return obstacle
        self._refusals[request.uid] = _RefusedRequest(request.generation, obstacle, now)
        return obstacle


def find_standing(log: DecisionLog, last: RolloutLogEntry, request: RolloutRequest, began: str) -> RolloutStanding:
    """Return what the log says of a request.

    Parameters
    ----------
    log, last
        The log and its last entry.
    request
        The resource. A rollout of its version that is not over is the resource's.
    began
        When the rollout began that is known as the resource's, ISO 8601; empty: none is. Then one that is over is the
        resource's if it began after the resource was made.
    """
    state = last.after
    is_its_version = request.version in (state.version, *state.refreshed)
    if is_its_version and (not state.is_over or _is_its_own(state, request, began)):
        return _make_standing(log, log.read_rollout(), is_latest=True)
    try:
        entries = log.read_rollout(request.version)
    except UserError:
        return RolloutStanding()
    state = entries[-1].after
    return _make_standing(log, entries, is_latest=False) if _is_its_own(state, request, began) else RolloutStanding()


def _is_its_own(state: RolloutState, request: RolloutRequest, began: str) -> bool:
    return state.created.isoformat() == began if began else state.created >= request.created


def _name_begin(standing: RolloutStanding) -> str:
    return standing.state.created.isoformat() if standing.state is not None else ""


def _make_standing(log: DecisionLog, entries: list[RolloutLogEntry], *, is_latest: bool) -> RolloutStanding:
    metric = log.read_policy(entries[-1].policy).deciding_metric.name
    return RolloutStanding(entries, is_latest, metric)


def _is_running(state: RolloutState) -> bool:
    """Whether a rollout takes the place in which another one could begin."""
    return not state.is_over and state.phase not in GUARDED


def _make_age_key(request: RolloutRequest) -> tuple[datetime, int]:
    return request.created, int(request.version)
