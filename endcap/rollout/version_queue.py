"""New versions while a rollout runs: which one begins, takes the running one's place, refreshes it, or waits.

Nothing is kept for a version that waits: it is the newest approved one in the registry, and newer than the one that is
rolled out.
"""

from __future__ import annotations

from datetime import datetime, timedelta

from endcap.deploy.pins import read_pin
from endcap.experiments.ab_log import AbLog
from endcap.experiments.log_entry import RolloutLogEntry
from endcap.experiments.refresh_check import may_refresh
from endcap.experiments.rollout_state import GUARDED, RolloutCommand, RolloutState
from endcap.rollout.controller import RolloutController

SUPERSEDE_FOR = timedelta(days=3)
"""So long newer versions take each other's place. Then the running one is decided, and a newer one waits for that."""


class VersionQueue:
    """Begins the rollouts of new versions, by what the running one's policy says in `while_running`.

    Parameters
    ----------
    controller
        Drives the recommender's rollouts.
    """

    def __init__(self, controller: RolloutController) -> None:
        self._controller = controller
        self._tests = AbLog(controller.store, controller.recommender)

    def offer(self, version: str) -> RolloutLogEntry | None:
        """Offer a new version, as the deploy step does: begin its rollout, or do what `while_running` says.

        Returns
        -------
        RolloutLogEntry or None
            The log's last entry; None if the version waits: for the end of the running rollout or A/B test, or for a
            pin's.

        Raises
        ------
        UserError, NotFoundError
            As `RolloutController.start` does.
        """
        controller = self._controller
        if read_pin(controller.recommender, controller.store) or self._tests.find_running() is not None:
            return None
        last = controller.log.find_last()
        if last is None or last.after.is_over or last.after.phase in GUARDED:
            return None if self.was_rolled_out(version) else controller.start(version)
        state = last.after
        if state.version == version or version in state.refreshed:
            controller.finish()
            return last
        if not self._is_next(version, state):
            return None
        candidate = controller.candidates.get_version(version)
        why = f"version {version} is newer"
        if controller.read_policy(state).while_running == "refresh":
            return controller.command(RolloutCommand("refresh", "deploy", why, candidate.version, candidate.package))
        controller.command(RolloutCommand("supersede", "deploy", why))
        return controller.start(version)

    def start_waiting(self) -> RolloutLogEntry | None:
        """Begin the newest version that waits, if neither a rollout nor an A/B test runs, or refresh the running one.

        Returns
        -------
        RolloutLogEntry or None
            The log's last entry; None if nothing waits, or may begin.

        Raises
        ------
        UserError, NotFoundError
            As `RolloutController.start` does.
        """
        controller = self._controller
        last, test = controller.log.find_last(), self._tests.find_last()
        if (last is None and test is None) or (test is not None and not test.after.is_over):
            return None
        is_free = last is None or last.after.is_over or last.after.phase in GUARDED
        if last is not None and not is_free and controller.read_policy(last.after).while_running != "refresh":
            return None
        known = [] if last is None else [int(last.after.version)]
        known += [] if test is None else [int(test.after.stable_version)]
        newest = controller.candidates.find_newest()
        if newest is None or newest.state != "approved" or int(newest.version) <= max(known):
            return None
        if self.was_rolled_out(newest.version) or controller.candidates.find_policy(newest.package) is None:
            return None
        return self.offer(newest.version)

    def was_rolled_out(self, version: str) -> bool:
        """Tell whether a rollout or an A/B test of the version ever began. It does not begin again by itself."""
        entries, steps = self._controller.log.read_entries(), self._tests.read_entries()
        return any(entry.kind == "begin" and entry.after.version == version for entry in entries) or any(
            step.kind == "begin" and step.after.find_challenger(version) is not None for step in steps
        )

    def _is_next(self, version: str, state: RolloutState) -> bool:
        """Tell whether a version may take the running one's place now, or waits."""
        candidates, now = self._controller.candidates, self._controller.read_clock()
        candidate = candidates.get_version(version)
        if candidate.state != "approved" or int(version) < int(state.version):
            return False
        match self._controller.read_policy(state).while_running:
            case "queue":
                return False
            case "supersede":
                # Else a shop whose rollouts take longer than the time between two versions would promote none.
                return now - self._find_first_superseded(now) < SUPERSEDE_FOR
            case "refresh":
                # The running version's evidence says nothing of another recipe. That one waits: it would otherwise
                # throw the evidence away for a version of which nothing is known.
                recipes = {candidates.read_recipe(package) for package in (state.package, candidate.package)}
                return len(recipes) == 1 and may_refresh(state, now)

    def _find_first_superseded(self, now: datetime) -> datetime:
        """Return when the first of the rollouts began that superseded each other up to the running one."""
        begun = now
        for entry in reversed(list(self._controller.log.read_entries())):
            if entry.kind == "begin":
                begun = entry.time
                if entry.before is None or entry.before.phase != "superseded":
                    break
        return begun
