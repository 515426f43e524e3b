"""Google's clients of BigQuery, and how calls to them are repeated.

Credentials come from where Google's libraries look for them: a file that GOOGLE_APPLICATION_CREDENTIALS names, the
login of `gcloud auth application-default login`, or the pod's workload identity. No spec names any.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, TypeVar

from endcap.errors import UserError
from endcap.retries import RetryLimits, RetryLoop
from endcap.secrets import clean_variables, read_variable
from endcap.sources.bigquery.errors import (
    convert_error,
    get_pause,
    is_passing,
    make_login_error,
    refuse_missing_package,
)

if TYPE_CHECKING:
    from google.cloud.bigquery import Client, QueryJob, ScalarQueryParameter
    from google.cloud.bigquery_storage_v1.services.big_query_read import BigQueryReadClient

EMULATOR, STORAGE_EMULATOR = "BIGQUERY_EMULATOR_HOST", "BIGQUERY_STORAGE_EMULATOR_HOST"
"""Addresses of an emulator: http://host:port of its REST interface, and host:port of its Storage Read API."""
CREDENTIALS = "GOOGLE_APPLICATION_CREDENTIALS"
SCOPES = ("https://www.googleapis.com/auth/cloud-platform",)
PATIENCE = RetryLimits(total=120.0, first=0.5, most=15.0)
TIMEOUT = 60.0
"""Seconds after which a call without an answer has failed."""
ONCE: dict[str, Any] = {"retry": None, "timeout": TIMEOUT}
"""Arguments by which a call to Google's client repeats nothing itself."""
_JOB_ONCE: dict[str, Any] = {"retry": None, "job_retry": None}
_Answer = TypeVar("_Answer")


@dataclass(frozen=True)
class Warehouse:
    """BigQuery, as a source reads it."""

    rest: Client
    storage: BigQueryReadClient
    project: str
    """The project that pays for queries and reads."""
    location: str | None
    """Where queries run. None: where their tables lie."""
    patience: RetryLimits = PATIENCE
    """How long a call is repeated."""
    reads_fields: bool = True
    """Whether a read session may name fields of structs. bqemulator knows whole columns only."""

    def call(self, name: str, function: Callable[[], _Answer]) -> _Answer:
        """Call a client, again and again while the failure may pass.

        Parameters
        ----------
        name
            The table, view or query, for errors.
        function
            The call. It must not repeat anything itself.

        Raises
        ------
        DataError, UserError
            If BigQuery refuses.
        TransientError
            If it does not answer, or a quota stays used up.
        """
        return call_patiently(name, function, self.patience)

    def query(
        self, name: str, sql: str, *, max_bytes: int | None = None, parameters: Sequence[ScalarQueryParameter] = ()
    ) -> QueryJob:
        """Run a query to its end, and return its job. Raises as `call` does."""
        from google.cloud.bigquery import QueryJobConfig

        config = QueryJobConfig(maximum_bytes_billed=max_bytes, query_parameters=list(parameters))
        job = self.call(name, lambda: self._begin(sql, config))
        self.call(name, lambda: job.result(**_JOB_ONCE))
        return job

    def list_rows(self, name: str, sql: str) -> list[dict[str, Any]]:
        """Run a query about tables, and return its rows. Raises as `call` does."""
        job = self.query(name, sql)
        return self.call(name, lambda: [dict(row.items()) for row in job.result(**_JOB_ONCE)])

    def estimate(self, name: str, sql: str, *, parameters: Sequence[ScalarQueryParameter] = ()) -> QueryJob:
        """Return the job of a dry run: the bytes that a query would read, and its columns. Raises as `call` does."""
        from google.cloud.bigquery import QueryJobConfig

        config = QueryJobConfig(dry_run=True, use_query_cache=False, query_parameters=list(parameters))
        return self.call(name, lambda: self._begin(sql, config))

    def _begin(self, sql: str, config: Any) -> QueryJob:
        return self.rest.query(
            sql, job_config=config, project=self.project, location=self.location, timeout=TIMEOUT, **_JOB_ONCE
        )


def call_patiently(name: str, function: Callable[[], _Answer], patience: RetryLimits = PATIENCE) -> _Answer:
    """Do the same without a warehouse at hand."""
    attempts = RetryLoop("BigQuery", patience)
    while True:
        try:
            answer = function()
        except Exception as error:
            if not _is_of_client(error):
                raise
            if not (is_passing(error) and attempts.again(str(error), after=get_pause(error))):
                raise convert_error(error, name) from None
        else:
            attempts.over()
            return answer


def open_warehouse(project: str | None, location: str | None, table_project: str | None = None) -> Warehouse:
    """Open the clients.

    Parameters
    ----------
    project
        The project that pays. None: that of the credentials, else that of the table.
    location
        Where queries run. None: where their tables lie.
    table_project
        The project of the source's table, if it names one.

    Raises
    ------
    UserError
        If Google's clients are not installed, there are no credentials, or no project is known.
    """
    try:
        import google.auth
        from google.auth.exceptions import DefaultCredentialsError
        from google.cloud.bigquery import Client
        from google.cloud.bigquery_storage_v1.services.big_query_read import BigQueryReadClient
    except ImportError as error:
        refuse_missing_package(error.name or "google-cloud-bigquery")
    clean_variables([CREDENTIALS])
    if read_variable(EMULATOR):
        return _open_emulator(project or table_project or "emulated", location)
    try:
        credentials, own = google.auth.default(scopes=SCOPES)
    except DefaultCredentialsError as error:
        raise make_login_error(str(error)) from None
    payer = project or own or table_project
    if payer is None:
        raise UserError(
            "no project pays for BigQuery's queries: the credentials name none; name the source's `project`",
            code="bigquery.project-missing",
        )
    return Warehouse(
        Client(payer, credentials=credentials, location=location),
        BigQueryReadClient(credentials=credentials),
        payer,
        location,
    )


def _open_emulator(project: str, location: str | None) -> Warehouse:
    from google.auth.credentials import AnonymousCredentials
    from google.cloud.bigquery import Client

    storage = read_variable(STORAGE_EMULATOR)
    if not storage:
        raise UserError(
            f"{EMULATOR} names an emulator; let {STORAGE_EMULATOR} name the host:port of its Storage Read API too",
            code="bigquery.emulator-incomplete",
            variable=STORAGE_EMULATOR,
        )
    anonymous = AnonymousCredentials()  # type: ignore[no-untyped-call]
    rest = Client(project, credentials=anonymous, location=location)  # reads EMULATOR itself
    return Warehouse(rest, open_storage(storage), project, location, reads_fields=False)


def open_storage(address: str) -> BigQueryReadClient:
    """Open a Storage Read API without TLS or credentials. address: host:port."""
    import grpc
    from google.cloud.bigquery_storage_v1.services.big_query_read import BigQueryReadClient
    from google.cloud.bigquery_storage_v1.services.big_query_read.transports import BigQueryReadGrpcTransport

    channel = grpc.insecure_channel(address, options=[("grpc.max_receive_message_length", -1)])
    return BigQueryReadClient(transport=BigQueryReadGrpcTransport(channel=channel))


def _is_of_client(error: Exception) -> bool:
    """Return whether an error comes from Google's clients or their connections."""
    import requests
    from google.api_core.exceptions import GoogleAPIError
    from google.auth.exceptions import GoogleAuthError

    return isinstance(error, GoogleAPIError | GoogleAuthError | requests.exceptions.RequestException | ConnectionError)
