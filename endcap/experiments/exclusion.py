"""What a rollout and an A/B test exclude: while one runs, or a step is half done, nobody else changes what is served.

Who changes it holds ``decisions/<recommender>`` in the store, asks here within the hold, and writes before the hold
ends. Both append a step and carry it out within such a hold too. So no other change comes between the two, nor
between traffic and the registry's champion; and after a kill there, the step that is left is seen here.
"""

from __future__ import annotations

from endcap.errors import UserError
from endcap.experiments.ab_log import AB_FOLDER, AbLog, make_running_error
from endcap.experiments.decision_log import DecisionLog
from endcap.experiments.entry_progress import EntryProgress
from endcap.experiments.rollout_state import GUARDED
from endcap.store import Store


def refuse_during_rollout(recommender: str, store: Store, attempt: str) -> None:
    """Refuse what a running rollout, or A/B test, does. Call it within the hold of ``decisions/<recommender>``.

    Parameters
    ----------
    recommender
        Its name.
    store
        Holds the logs of its rollouts and A/B tests.
    attempt
        What was to be done, such as ``endcap deploy --share``.

    Raises
    ------
    UserError
        A rollout or an A/B test runs (``rollout.runs``, ``ab.runs``), or a step is half done
        (``rollout.step-unfinished``, ``ab.step-unfinished``). The error names the commands to use.
    """
    refuse_unfinished_step(recommender, store, attempt)
    _refuse_running_test(recommender, store, attempt)
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


def refuse_during_test(recommender: str, store: Store, attempt: str) -> None:
    """Refuse what an A/B test that runs excludes, or one whose last step is half done. Call it within the hold.

    Parameters, and the errors ``ab.runs`` and ``ab.step-unfinished``, are those of `refuse_during_rollout`.
    """
    _refuse_unfinished_test(recommender, store, attempt)
    _refuse_running_test(recommender, store, attempt)


def _refuse_running_test(recommender: str, store: Store, attempt: str) -> None:
    running = AbLog(store, recommender).find_running()
    if running is not None:
        raise make_running_error(running.after, attempt)


def refuse_unfinished_step(recommender: str, store: Store, attempt: str) -> None:
    """Refuse a change while the last step of either is half done, as after a kill: traffic and champion may differ.

    Parameters, and the errors ``rollout.step-unfinished`` and ``ab.step-unfinished``, are those of
    `refuse_during_rollout`.
    """
    _refuse_unfinished_test(recommender, store, attempt)
    last = DecisionLog(store, recommender).find_last()
    if last is None or EntryProgress(store, recommender).is_carried_out(last):
        return
    raise UserError(
        f"{attempt}: the last step of a rollout of {recommender} is half done (version {last.after.version} becomes "
        f"{last.after.phase}), since its process ended. `endcap rollout finish {recommender}` does the rest, and so "
        "does `endcap serve`. Then try again",
        code="rollout.step-unfinished",
        recommender=recommender,
        version=last.after.version,
        phase=last.after.phase,
        attempt=attempt,
    )


def _refuse_unfinished_test(recommender: str, store: Store, attempt: str) -> None:
    last = AbLog(store, recommender).find_last()
    if last is None or EntryProgress(store, recommender, AB_FOLDER).is_carried_out(last):
        return
    raise UserError(
        f"{attempt}: the last step of the A/B test of {recommender} is half done, since its process ended. "
        f"`endcap ab finish {recommender}` does the rest, and so does `endcap serve`. Then try again",
        code="ab.step-unfinished",
        recommender=recommender,
        phase=last.after.phase,
        attempt=attempt,
    )
