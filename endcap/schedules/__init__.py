"""Runs that start by themselves: when they are due, what was decided on each, and the process that does one."""

from endcap.schedules.decide import decide
from endcap.schedules.ledger import DueRun, LedgerEntry, RunClaim, ScheduleLedger, read_ledger, update_ledger
from endcap.schedules.scheduler import Scheduler

__all__ = [
    "DueRun",
    "LedgerEntry",
    "RunClaim",
    "ScheduleLedger",
    "Scheduler",
    "decide",
    "read_ledger",
    "update_ledger",
]
