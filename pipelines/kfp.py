"""Runs on Kubeflow Pipelines: upload a pipeline version, create a run once, and follow it to its end."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any

from kfp_server_api import V2beta1Run

from endcap.errors import EndcapError, NotFoundError, TransientError, UserError
from endcap.runs import Run, RunEvent, RunSilence, StepEnd, StepFailure, StepRun, StepStart
from endcap.secrets import KFP, clean_variables, strip_value
from endcap.spec.load import Loaded
from endcap_pipelines.kfp_address import check_host
from endcap_pipelines.kfp_calls import LOGIN_CODES, Listen, call_kfp, call_kfp_with_retries
from endcap_pipelines.kfp_client import INSTALLED_IN, KfpClient
from endcap_pipelines.kfp_resources import KfpResources
from endcap_pipelines.kfp_scheduled import ScheduledKfp
from endcap_pipelines.task_states import find_task_states, make_end_event

Json = dict[str, Any]
ENDED = ("SUCCEEDED", "FAILED", "CANCELED", "SKIPPED")
GRACE = timedelta(minutes=1)
"""How long after the deadline the steps may still report that it passed."""


def connect(
    *,
    host: str | None = None,
    namespace: str | None = None,
    user_namespace: str | None = None,
    token: str | None = None,
    cookies: str | None = None,
    context: str | None = None,
    ca: str | None = None,
    listen: Listen = lambda event: None,
) -> KfpServer:
    """Connect to KFP as its own client does: by the arguments, environment variables, the pod's cluster, or kubeconfig.

    Parameters
    ----------
    host, token, cookies, context, ca
        Address, bearer token, header `Cookie`, the kubeconfig's context, file of certificates.
    namespace
        Where KFP is installed; None: `kubeflow`. Only connections by kubeconfig and from a pod need it.
    user_namespace
        The user's namespace, if KFP serves several users.
    listen
        Receives an event while this waits for a busy KFP.

    Returns
    -------
    KfpServer
        The server, which has answered once.

    Raises
    ------
    UserError
        No KFP is named, the login fails, or the server refuses or is not KFP.
    TransientError
        Nothing answers, or KFP is busy for too long.
    """
    check_host(host)
    clean_variables(KFP)
    token = None if token is None else strip_value("KFP_EXISTING_TOKEN (--kfp-token)", token)
    cookies = None if cookies is None else strip_value("KFP_COOKIES", cookies)

    def reach() -> KfpClient:
        return KfpClient(
            host=host,
            token=token,
            cookies=cookies,
            ca=ca,
            context=context,
            installed_in=namespace,
            user_namespace=user_namespace,
        )

    # An address where nothing listens fails at once: most often it is wrong.
    client = call_kfp_with_retries("reach KFP", reach, listen=listen, unless=("kfp.unreachable",))
    return KfpServer(client, listen, namespace)


@dataclass(frozen=True)
class SubmittedRun:
    """A run that KFP has accepted. page: its address in KFP's pages."""

    id: str
    page: str
    version: str
    new_version: bool


class KfpServer:
    """One KFP, as the command line uses it."""

    interval = 2.0
    """Seconds between two requests for a run's state."""
    patience = 900.0
    """Seconds to wait for a server that does not answer."""

    def __init__(self, client: KfpClient, listen: Listen, installed_in: str | None) -> None:
        """installed_in: the namespace as the user gave it, for an error that finds it meant as the user's own."""
        self._client = client
        self._listen = listen
        self._installed_in = installed_in
        self._accepted = self._followed = False
        """Whether KFP has accepted this login for any call, and for reading a run."""

    def submit(self, loaded: Loaded, pipeline: str, arguments: Json, *, name: str) -> SubmittedRun:
        """Upload the spec's package unless KFP has this version, and start a run of it in the recommender's experiment.

        Parameters
        ----------
        loaded
            The spec.
        pipeline
            Its name.
        arguments
            The pipeline's parameters.
        name
            The run's name.

        Returns
        -------
        SubmittedRun
            The run that KFP has created. It is created once, even if KFP's answer gets lost.
        """
        records = KfpResources(self._client, self._namespace(), self._listen)
        pipeline_id = records.pipeline(f"endcap-{pipeline}-{loaded.recommender.name}")
        self._accepted = True
        version, new = records.version(pipeline_id, pipeline, loaded)
        experiment_id = records.experiment(loaded.recommender.name)
        run = records.run(experiment_id, name, version, arguments)
        return SubmittedRun(run, self.page(run), version.display_name, new)

    def serve_schedules(self) -> ScheduledKfp:
        """Return this KFP as a scheduler uses it: each request is made once. Raises UserError."""
        return ScheduledKfp(self._client, self._namespace())

    def page(self, run: str) -> str:
        return f"{self._client._get_url_prefix()}/#/runs/details/{run}"

    def end(self, run: str) -> None:
        """End a run. Raises NotFoundError."""
        call_kfp_with_retries(f"end the run {run}", self._client.terminate_run, run, listen=self._listen)

    def follow(
        self,
        run: str,
        steps: Sequence[str],
        listen: Listen,
        *,
        deadline: timedelta | None = None,
        read_step: Callable[[str], StepRun | None] = lambda step: None,
        read_run: Callable[[], Run | None] = lambda: None,
    ) -> None:
        """Send events of the steps as they start and end, until the run has ended well.

        Parameters
        ----------
        run
            KFP's id of the run.
        steps
            The pipeline's steps in order.
        listen
            Receives the events.
        deadline
            How long the run may take; then it is ended.
        read_step, read_run
            Read a step's record and the run's record, if this machine reaches the store.

        Raises
        ------
        EndcapError
            The run failed, was ended, or is past its deadline. The failed step's event has the cause. An error with
            the field `goes_on` concerns only the following: the run goes on.
        """
        reported: dict[str, str] = {}
        while True:
            state = self._look(run, listen)
            for step, now in find_task_states(state, steps).items():
                if reported.get(step) is None:
                    listen(StepStart(step))
                    reported[step] = "started"
                if reported[step] == "started" and (event := make_end_event(step, now, read_step(step))):
                    reported[step] = event.kind
                    listen(event)
            if state.state in ENDED:
                for step in steps:
                    record = read_step(step) if step not in reported else None
                    if record and record.state == "done":  # a task that KFP does not list
                        listen(StepEnd(step, record.result, record.summary, record.seconds, record.reused))
                return _check_end(state, StepFailure.kind in reported.values(), listen, read_run)
            if deadline is not None and state.created_at and datetime.now(UTC) > state.created_at + deadline + GRACE:
                self.end(run)
                raise EndcapError(
                    "the run took longer than its deadline (pipeline.deadline), so it was ended",
                    code="run.deadline-passed",
                    deadline=(state.created_at + deadline).isoformat(timespec="seconds"),
                )
            time.sleep(self.interval)

    def _look(self, run: str, listen: Listen) -> V2beta1Run:
        """Read the run's state, and wait for a while for a server that does not answer."""
        begun, wait, shown = time.monotonic(), self.interval, False
        while True:
            try:
                state = call_kfp(f"find the run {run}", self._client.get_run, run)
            except TransientError as error:
                if time.monotonic() - begun > self.patience:
                    raise EndcapError(
                        f"{error}. Endcap stopped following the run after {self.patience:.0f} s; the run goes on",
                        code="kfp.silent",
                        run=run,
                        seconds=self.patience,
                        goes_on=True,
                    ) from None
                if not shown:
                    listen(RunSilence(f"{error}; the run goes on, and Endcap asks again for {self.patience:.0f} s"))
                shown = True
            except NotFoundError:
                raise
            except UserError as error:
                raise self._lost(run, error) from None
            else:
                self._accepted = self._followed = True
                return state
            time.sleep(wait)
            wait = min(2 * wait, 30.0)

    def _lost(self, run: str, error: UserError) -> EndcapError:
        """Make the error of a run that may no longer be read: a login that worked before has expired."""
        good_before = self._followed if error.fields.get("status") == 403 else self._accepted
        if not good_before:
            return error
        if error.code in LOGIN_CODES:
            return EndcapError(
                f"the login to KFP expired while Endcap followed the run, which goes on: {error}",
                code="kfp.token-expired",
                run=run,
                reason=str(error),
                goes_on=True,
            )
        error.fields |= {"run": run, "goes_on": True}
        return error

    def _namespace(self) -> str | None:
        """The user's namespace if KFP serves several users. Raises UserError if nobody has named it."""
        namespace = self._client.namespace
        if namespace or not self._client.multi_user:
            return namespace
        before = self._installed_in
        name, confused = "NAME", ""
        if before not in (None, INSTALLED_IN):
            name, confused = str(before), f" (--kfp-namespace {before} says where KFP is installed)"
        raise UserError(
            "this KFP serves several users, each in a namespace of their own. Name yours by --kfp-user-namespace "
            f"{name}, KFP_USER_NAMESPACE, or kfp.user_namespace in environments.yaml{confused}. KFP does not list the "
            "namespaces; the menu of Kubeflow's pages shows yours",
            code="kfp.no-user-namespace",
            namespace=before,
        )


def _check_end(
    run: V2beta1Run, failure_reported: bool, listen: Callable[[RunEvent], None], read_run: Callable[[], Run | None]
) -> None:
    """Raise EndcapError unless the run ended well."""
    if run.state == "CANCELED":
        raise EndcapError("someone ended the run (canceled)", code="run.canceled", run=run.run_id)
    if run.state != "FAILED":
        return
    record = read_run()  # it knows of failures that KFP's list of tasks does not show
    fault = record.fault if record else None
    if not failure_reported and record and record.failed_step and fault:
        listen(StepFailure(record.failed_step, fault))
    message = (run.error.message if run.error else "") or (fault.message if fault else "KFP gives no cause")
    raise EndcapError(f"the run failed: {message}", code="kfp.run-failed", run=run.run_id)
