"""How a Spark Connect server is reached."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pyspark.sql.connect.client import DefaultChannelBuilder


def make_channel_builder(address: str, token: str | None = None) -> DefaultChannelBuilder:
    """Make what opens channels to a server.

    Parameters
    ----------
    address
        The address.
    token
        The token of a driver that was started for the step in the cluster. It is shown without TLS, which Spark's
        driver does not speak; pyspark's own channels show a token without TLS to this machine alone. None: the
        address, or the variable SPARK_CONNECT_AUTHENTICATE_TOKEN, has the token.
    """
    import grpc
    from pyspark.sql.connect.client import DefaultChannelBuilder

    if token is None:
        return DefaultChannelBuilder(address)

    class PlainChannelBuilder(DefaultChannelBuilder):
        def toChannel(self) -> grpc.Channel:  # noqa: N802 - pyspark's name
            return self._insecure_channel(self.endpoint)

        def metadata(self) -> list[tuple[str, str]]:
            return [*super().metadata(), ("authorization", f"Bearer {token}")]

    return PlainChannelBuilder(address)
