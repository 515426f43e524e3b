"""What a schedule's ledger is made of: runs that are due, the claimed run, what was decided."""

from __future__ import annotations

from datetime import datetime
from typing import Literal

from pydantic import BaseModel, ConfigDict

Cause = Literal["cron", "arrival", "retrigger"]
Step = Literal["started", "again", "delayed", "succeeded", "failed", "canceled", "skipped", "retriggered"]
Place = Literal["here", "kfp"]
"""Where runs run: as a process of a scheduler's machine, or on Kubeflow Pipelines."""
Fate = Literal["runs", "ran", "failed", "skipped"]


class LedgerRecord(BaseModel):
    """A part of a ledger. Keys of a newer release are left out."""

    model_config = ConfigDict(extra="ignore", frozen=True)


class DueRun(LedgerRecord):
    """A run that is due.

    Attributes
    ----------
    number
        From 1 on, in the order in which runs became due.
    cause
        A time (`cron`), new data (`arrival`), or a person (`retrigger`).
    at
        Since when it is due; of `cron` that time. UTC.
    version
        The version of the data at that time; empty: not known.
    until
        The run's logical date; None: all events.
    by, why
        The person, and the reason.
    """

    number: int
    cause: Cause
    at: datetime
    version: str = ""
    until: datetime | None = None
    by: str = ""
    why: str = ""


class DataArrival(LedgerRecord):
    """What came since the schedule's run before.

    Attributes
    ----------
    added, changed, removed
        How many parts: files, partitions of tables, or markers; folders of them where there are very many.
    names
        Names of those that were added or changed, some at most.
    days
        The days that these names have, some at most. ISO, in order.
    """

    added: int = 0
    changed: int = 0
    removed: int = 0
    names: tuple[str, ...] = ()
    days: tuple[str, ...] = ()


class RunClaim(LedgerRecord):
    """The run that goes on, claimed before it is created.

    Attributes
    ----------
    due
        What made it due.
    arrival
        What came since the run before; None: not known.
    run
        The name that the run gets. Another attempt has another name.
    attempt
        From 1 on.
    host, pid
        The process that answers for it: the scheduler, and later the run's own. On KFP the scheduler that creates it.
    begun
        When the run's own process took the claim over, or KFP was seen to have the run; None before. UTC.
    ends_by
        When it is ended, UTC.
    beat
        Grows as long as the process lives.
    end
        Why the run is to end; empty: it is not to.
    place
        Where it runs.
    tries
        On KFP: how often its creation was begun. Of more than one, each may still create a run.
    created
        On KFP: the id of the run that counts; empty: none is known.
    """

    due: DueRun
    arrival: DataArrival | None = None
    run: str
    attempt: int
    host: str
    pid: int
    begun: datetime | None = None
    ends_by: datetime | None = None
    beat: int = 0
    end: str = ""
    place: Place = "here"
    tries: int = 0
    created: str = ""


class StrayRun(LedgerRecord):
    """A claim that was settled, of whose run a twin may still appear on KFP: a run of its name with another id."""

    claim: RunClaim
    since: datetime


class LedgerEntry(LedgerRecord):
    """What was decided or happened. reason: a name, of each skip; run: the run's name; created: its id on KFP."""

    at: datetime
    step: Step
    cause: Cause
    number: int = 0
    reason: str = ""
    version: str = ""
    slot: datetime | None = None
    run: str = ""
    created: str = ""
    by: str = ""
    why: str = ""
