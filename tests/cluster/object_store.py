"""A real S3 server, versitygw, on a folder."""

from __future__ import annotations

import secrets
import socket
from dataclasses import dataclass
from pathlib import Path

from endcap_serving.local.predictors import find_free_port
from tests.cluster.build import build, program
from tests.cluster.control_plane import wait_until
from tests.cluster.keeper import Keeper


@dataclass(frozen=True)
class ObjectStore:
    """Where it answers, and for whom."""

    endpoint: str
    """http://host:port"""
    access_key: str
    secret_key: str
    region: str = "us-east-1"

    def environment(self) -> dict[str, str]:
        """What Endcap and the AWS clients read."""
        return {
            "ENDCAP_S3_ENDPOINT": self.endpoint,
            "AWS_ENDPOINT_URL": self.endpoint,
            "AWS_ACCESS_KEY_ID": self.access_key,
            "AWS_SECRET_ACCESS_KEY": self.secret_key,
            "AWS_REGION": self.region,
        }

    def make_bucket(self, name: str) -> str:
        """Make a bucket (no harm if it is there); its address, s3://NAME."""
        from minio import Minio

        client = Minio(
            self.endpoint.removeprefix("http://"),
            access_key=self.access_key,
            secret_key=self.secret_key,
            secure=False,
            region=self.region,
        )
        if not client.bucket_exists(name):
            client.make_bucket(name)
        return f"s3://{name}"


def start(keeper: Keeper, folder: Path) -> ObjectStore:
    """Returns when it answers. `folder` holds the objects, what the server knows of them beside it."""
    build("versitygw")
    data, notes = folder / "objects", folder / "metadata"
    data.mkdir(parents=True)
    notes.mkdir()
    store = ObjectStore(f"http://127.0.0.1:{find_free_port()}", "endcap-test", secrets.token_hex(20))
    address = store.endpoint.removeprefix("http://")
    # Attributes in a folder of their own: not every file system keeps extended ones.
    command = [program("versitygw", "versitygw"), "--port", address, "posix", "--sidecar", notes, data]
    identity = {"ROOT_ACCESS_KEY": store.access_key, "ROOT_SECRET_KEY": store.secret_key}
    keeper.start("object-store", command, identity)
    host, port = address.split(":")

    def answers() -> bool:
        with socket.create_connection((host, int(port)), timeout=2):
            return True

    wait_until(answers, "the S3 server does not answer", keeper.log("object-store"))
    return store
