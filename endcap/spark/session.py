"""A session of Spark for a step."""

from __future__ import annotations

import contextlib
import importlib.util
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

from endcap.errors import EndcapError, TransientError, UserError
from endcap.processes import exit_on_sigterm
from endcap.redaction import redact
from endcap.spark.channel import make_channel_builder
from endcap.spark.failures import StartedSpark, explain_failure
from endcap.spark.server import start_server
from endcap.spec.spark import SparkSpec

if TYPE_CHECKING:
    from pyspark.sql.connect.client import DefaultChannelBuilder
    from pyspark.sql.connect.session import SparkSession

ANSWERS_WITHIN = 20.0
"""Seconds that an address may take to answer."""
RETRIES: dict[str, Any] = {"max_retries": 6, "max_backoff": 8000}
"""How often a call is sent again to a Connect server that does not answer: for about 20 s. Spark's own client asks for
ten minutes."""
FEW_RETRIES: dict[str, Any] = {"max_retries": 2}
"""The same for a Spark on this machine, whose process says whether it lives, and for the end of a session."""


@contextlib.contextmanager
def open_session(
    spec: SparkSpec, folder: Path, progress: Callable[[str], None] = lambda line: None
) -> Iterator[SparkSession]:
    """Open a session, and end it at last: after success, after a failure, and at SIGTERM.

    A Spark that was started for the session ends with it, and also if this process is killed. A Connect server ends the
    session of a client that was killed when it has been idle (`spark.connect.session.manager.defaultSessionTimeout`).

    Parameters
    ----------
    spec
        Where Spark runs.
    folder
        For files of a Spark that is started here.
    progress
        Takes lines about a Spark that is started in the cluster.

    Raises
    ------
    UserError
        If pyspark or Java is missing, or if client and server have other versions.
    TransientError
        If nobody answers, or if Spark goes away.
    ClusterError
        If Spark does not start, or fails.
    """
    if importlib.util.find_spec("pyspark") is None:
        raise UserError(
            "spark: the package pyspark is not installed. Install Endcap with it: pip install 'endcap[spark]'",
            code="spark.not-installed",
        )
    with contextlib.ExitStack() as stack:
        stack.enter_context(exit_on_sigterm())
        started: StartedSpark | None = None
        try:
            if spec.connect is not None:
                builder = make_channel_builder(spec.connect)
            elif spec.application is not None:
                from endcap.cluster import connect
                from endcap.spark.application import start_application

                application = stack.enter_context(start_application(connect(), spec, progress))
                started, builder = application, make_channel_builder(application.address, application.token)
            else:
                server = stack.enter_context(start_server(spec, folder))
                started, builder = server, make_channel_builder(server.address)
            session = _connect(builder, spec)
            stack.callback(_end, session)
            yield session
        except EndcapError:
            raise
        except Exception as error:
            explained = explain_failure(error, started)
            if explained is None:
                raise
            raise explained from error


def _connect(builder: DefaultChannelBuilder, spec: SparkSpec) -> SparkSession:
    import grpc
    import pyspark
    from pyspark.sql.connect.client.retries import DefaultPolicy
    from pyspark.sql.connect.session import SparkSession

    is_here = spec.connect is None and spec.application is None
    address = spec.connect or f"sc://{builder.host}"
    channel = builder.toChannel()
    try:
        grpc.channel_ready_future(channel).result(ANSWERS_WITHIN)
    except grpc.FutureTimeoutError:
        raise TransientError(
            f"spark: nobody answers at {redact(address)} within {ANSWERS_WITHIN:.0f} s. Check spark.connect, "
            "whether the Spark Connect server runs, and whether network policies let the step reach it; a server with "
            "TLS needs /;use_ssl=true",
            code="spark.unreachable",
            address=redact(address),
        ) from None
    finally:
        channel.close()
    session: SparkSession = SparkSession.builder.channelBuilder(builder).create()
    session.client.set_retry_policies([DefaultPolicy(**(FEW_RETRIES if is_here else RETRIES))])
    try:
        client, server = pyspark.__version__, session.version
        if _cut(client) != _cut(server):
            raise UserError(
                f"spark: the Connect server has Spark {server}, and pyspark here is {client}. Both need one "
                f"major.minor version: install pyspark=={_cut(server)}.*, or use a server of Spark {_cut(client)}",
                code="spark.version-differs",
                found=server,
                expected=client,
            )
        if spec.connect is not None:
            for name, value in spec.conf.items():
                session.conf.set(name, str(value).lower() if isinstance(value, bool) else str(value))
        session.conf.set("spark.sql.session.timeZone", "UTC")
    except BaseException:
        _end(session)
        raise
    return session


def _cut(version: str) -> str:
    return ".".join(version.split(".")[:2])


def _end(session: Any) -> None:
    """End the session. A server that is gone has none left."""
    from pyspark.sql.connect.client.retries import DefaultPolicy

    session.client.set_retry_policies([DefaultPolicy(**FEW_RETRIES)])
    with contextlib.suppress(Exception):
        session.interruptAll()
    with contextlib.suppress(Exception):
        session.stop()
