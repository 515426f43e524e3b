"""Claimed runs on Kubeflow Pipelines: each is created once, followed, and ended when it is to end.

KFP creates a run anew for each request, also for one whose answer got lost. So the ledger's claim names the run before
it is created. Whoever is not sure that it was created looks for the name, and takes what is there. What appears later
under the same name is a twin, which is ended. Artifacts are made once, whatever a twin did before that.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any, Literal, Protocol

from endcap.errors import EndcapError, TransientError
from endcap.runs import find_run
from endcap.schedules.ledger_records import Place, RunClaim
from endcap.schedules.part_look import PartLook, ScheduledPart, SchedulerSurroundings
from endcap.schedules.process_runs import LifeSigns
from endcap.spec.load import Loaded
from endcap.spec.schedule import PARTS
from endcap.store import Store

Json = dict[str, Any]
End = tuple[Literal["succeeded", "failed", "canceled"], str]
ENDED = ("SUCCEEDED", "FAILED", "CANCELED", "SKIPPED")
"""KFP's states of a run that has ended."""
PAUSES = (1.0, 2.0, 5.0, 10.0, 20.0, 30.0)
"""Seconds for which a KFP that does not answer is left alone; the last one again and again."""
GRACE = timedelta(minutes=10)
"""How long after its deadline a run may need to end. Then it counts as ended, whatever KFP says."""
AWAY = "kfp-away"


@dataclass(frozen=True)
class ListedRun:
    """A run as KFP lists it. created_at: UTC."""

    id: str
    name: str
    state: str
    created_at: datetime


class RunServer(Protocol):
    """A KFP. Each method asks once, and raises EndcapError. Any number of threads may call all but `prepare`."""

    def prepare(self, loaded: Loaded, pipeline: str) -> Any:
        """Upload the pipeline unless KFP has it; returns what `create` needs."""

    def create(self, prepared: Any, arguments: Mapping[str, Any], name: str) -> str:
        """Create a run; returns its id. After an error it may have been created, or be created later."""

    def find_named(self, names: Sequence[str]) -> list[ListedRun]:
        """Find all runs that have one of these names."""

    def read(self, run: str) -> ListedRun | None:
        """Read a run; None if there is none."""

    def end(self, run: str) -> None:
        """Ask for a run's end."""

    def is_lasting(self, error: EndcapError) -> bool:
        """Tell whether an error would come again, whatever anybody does at KFP."""


class KfpRuns:
    """Does the runs of claims on KFP.

    Parameters
    ----------
    server
        The KFP.
    make_arguments
        Makes the parameters of a claim's run.
    store
        Holds the runs' records.
    surroundings
        The machine.
    """

    place: Place = "kfp"

    def __init__(
        self,
        server: RunServer,
        make_arguments: Callable[[ScheduledPart, RunClaim], Json],
        store: Store,
        surroundings: SchedulerSurroundings | None = None,
    ) -> None:
        self._server, self._make_arguments, self._store = server, make_arguments, store
        self._here = surroundings or SchedulerSurroundings()
        self._life = LifeSigns(self._here)
        self._prepared: dict[str, Any] = {}
        self._preparing = threading.Lock()
        self._own: set[str] = set()
        self._names: set[str] = set()
        self._listed: dict[str, list[ListedRun]] | None = None
        self._failures, self._away_until = 0, 0.0

    def survey(self, looks: Sequence[PartLook]) -> None:
        """List all claimed runs, and those of which a twin may appear, by one request."""
        concerned = [look for look in looks if _list_names(look)]
        self._names, self._listed = {name for look in concerned for name in _list_names(look)}, None
        if not self.can_start():
            return
        listed: dict[str, list[ListedRun]] = {}
        if self._names:
            try:
                for run in self._server.find_named(sorted(self._names)):
                    listed.setdefault(run.name, []).append(run)
            except EndcapError as error:
                self._leave_alone()
                concerned[0].report(error)
                return
            self._failures = 0
        self._listed = listed

    def follow(self, look: PartLook) -> None:
        """Adopt, create again, settle or end the claimed run of a part, as KFP lists it."""
        if self._listed is None:
            return
        self._end_strays(look)
        claim = look.ledger.claim
        if claim is None or claim.place != self.place or claim.run not in self._names:
            return
        runs = sorted(self._listed.get(claim.run, []), key=lambda run: (run.created_at, run.id))
        if not claim.created and runs:
            claim = self._adopt(look, claim, runs[0].id)
        if claim is None:
            return
        if claim.created:
            self._follow_created(look, claim, runs)
        elif claim.end:
            now = self._here.now()
            look.change(lambda before: before.settle(claim.run, "canceled", claim.end, now))
        elif self.can_start() and self._may_create(look, claim):
            host, pid, now = self._here.host, self._here.pid, self._here.now()
            again = look.change(lambda before: before.try_again(claim, host, pid, now)).claim
            if again is not None and (again.run, again.tries) == (claim.run, claim.tries + 1):
                self.start(look, again)

    def start(self, look: PartLook, claim: RunClaim) -> None:
        """Create the run of a claim, by one request."""
        self._own.add(claim.run)
        name = look.part.name
        try:
            if self._prepared.get(name) is None:
                self._prepare(look.part)
            created = self._server.create(self._prepared[name], self._make_arguments(look.part, claim), claim.run)
        except EndcapError as error:
            if not isinstance(error, TransientError):
                self._prepared.pop(name, None)  # KFP may have lost it
            look.report(error)
            code, now = error.code, self._here.now()
            if self._server.is_lasting(error):
                look.change(lambda before: before.settle(claim.run, "failed", code, now))
            else:
                self._leave_alone()
                look.change(lambda before: before.delay(claim.run, AWAY, now))
        else:
            self._failures = 0
            self._adopt(look, claim, created)

    def can_start(self) -> bool:
        """Tell whether KFP is not being left alone."""
        return self._here.monotonic() >= self._away_until

    def prepare(self, parts: Sequence[ScheduledPart]) -> bool:
        """Upload the pipeline of one more part. Returns whether there are more."""
        part = next((part for part in parts if part.name not in self._prepared), None)
        if part is None or not self.can_start():
            return part is not None
        try:
            self._prepare(part)
        except EndcapError as error:
            if self._server.is_lasting(error):
                self._prepared[part.name] = None  # its run will meet the error, and report it
            else:
                self._leave_alone()
        return True

    def is_busy(self) -> bool:
        """Tell that no process was started."""
        return False

    def has_ended_process(self) -> bool:
        """Tell that no process was started."""
        return False

    def _prepare(self, part: ScheduledPart) -> None:
        with self._preparing:
            self._prepared[part.name] = self._server.prepare(part.loaded, PARTS[part.part])

    def _may_create(self, look: PartLook, claim: RunClaim) -> bool:
        """Tell whether the creation is this scheduler's business: it began it, or who began it died."""
        is_own = (claim.host, claim.pid) == (self._here.host, self._here.pid) and claim.run in self._own
        return is_own or self._life.is_dead(look.part.name, claim)

    def _adopt(self, look: PartLook, claim: RunClaim, created: str) -> RunClaim | None:
        """Record which run counts. Returns the claim as it is then; None if it is another's."""
        now, deadline = self._here.now(), look.part.schedule.deadline
        after = look.change(lambda before: before.adopt(claim.run, created, now, deadline)).claim
        self._own.discard(claim.run)
        return after if after is not None and after.run == claim.run else None

    def _follow_created(self, look: PartLook, claim: RunClaim, runs: Sequence[ListedRun]) -> None:
        for twin in runs:
            if twin.id != claim.created:
                self._end_twin(look, twin, claim)
        current = next((run for run in runs if run.id == claim.created), None) or self._server.read(claim.created)
        now = self._here.now()
        if current is None:
            look.change(lambda before: before.settle(claim.run, "failed", "run-gone", now))
            return
        assert claim.ends_by is not None
        if current.state in ENDED:
            step, reason = self._judge_end(claim, current)
            look.change(lambda before: before.settle(claim.run, step, reason, now))
            return
        if now >= claim.ends_by and not claim.end:
            look.change(lambda before: before.ask_end(claim.run, "deadline"))
        ending = look.ledger.claim
        if ending is None or ending.run != claim.run or not ending.end:
            return
        if current.state != "CANCELING":
            self._server.end(current.id)
        if now >= claim.ends_by + GRACE:
            step, reason = _judge_asked_end(ending)
            look.change(lambda before: before.settle(claim.run, step, reason, now))

    def _judge_end(self, claim: RunClaim, run: ListedRun) -> End:
        if run.state == "SUCCEEDED":
            return "succeeded", ""
        if claim.end:
            return _judge_asked_end(claim)
        if run.state != "FAILED":
            return "canceled", "interrupted"
        record = find_run(self._store, run.id)
        return "failed", record.fault.code if record is not None and record.fault is not None else "kfp.run-failed"

    def _end_strays(self, look: PartLook) -> None:
        """End what appeared under the names of runs that have ended."""
        now = self._here.now()
        if look.ledger.drop_old_strays(now) is not look.ledger:
            look.change(lambda before: before.drop_old_strays(now))
        for stray in look.ledger.strays:
            for run in (self._listed or {}).get(stray.claim.run, []):
                if run.id != stray.claim.created:
                    self._end_twin(look, run, stray.claim)

    def _end_twin(self, look: PartLook, twin: ListedRun, claim: RunClaim) -> None:
        if twin.state in (*ENDED, "CANCELING"):
            return
        self._server.end(twin.id)
        now = self._here.now()
        look.change(
            lambda before: before.note("canceled", claim.due, now, reason="twin", run=claim.run, created=twin.id)
        )

    def _leave_alone(self) -> None:
        """Ask KFP nothing for a while."""
        with self._preparing:
            if not self.can_start():  # another thread met the same silence
                return
            pause = PAUSES[min(self._failures, len(PAUSES) - 1)]
            self._failures += 1
            self._away_until = self._here.monotonic() + pause


def _judge_asked_end(claim: RunClaim) -> End:
    return ("failed" if claim.end == "deadline" else "canceled"), claim.end


def _list_names(look: PartLook) -> list[str]:
    claim = look.ledger.claim
    names = [stray.claim.run for stray in look.ledger.strays]
    return names if claim is None or claim.place != KfpRuns.place else [*names, claim.run]
