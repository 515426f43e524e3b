"""Commands that a running rollout excludes: it alone gives shares and promotes meanwhile."""

from __future__ import annotations

from endcap.errors import UserError
from endcap.experiments.decision_log import DecisionLog
from endcap.experiments.rollout_state import GUARDED
from endcap.store import Store


def refuse_during_rollout(recommender: str, store: Store, attempt: str) -> None:
    """Refuse to do by hand what a running rollout does.

    Parameters
    ----------
    recommender
        Its name.
    store
        Holds the log of its rollouts.
    attempt
        What was to be done, such as ``endcap deploy --share``.

    Raises
    ------
    UserError
        A rollout runs. The error names the commands to use.
    """
    last = DecisionLog(store, recommender).find_last()
    if last is None or last.after.is_over or last.after.phase in GUARDED:
        return
    raise UserError(
        f"{attempt}: a rollout of version {last.after.version} of {recommender} runs and decides on shares. To stop it "
        f"where it is: endcap rollout pause {recommender}. To give everyone the version, or nobody: endcap rollout "
        f"promote {recommender}, endcap rollout abort {recommender}",
        code="rollout.runs",
        recommender=recommender,
        version=last.after.version,
        phase=last.after.phase,
        attempt=attempt,
    )
