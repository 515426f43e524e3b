"""The store's suite on a real S3 server; unlike moto it keeps objects on a disk and knows whom it lets in."""

from __future__ import annotations

import pytest

from endcap.errors import UserError
from endcap.store import open_store
from tests.cluster.object_store import ObjectStore
from tests.store.s3_contract import S3Contract
from tests.store.servers import S3Place, Server


@pytest.fixture(scope="module")
def server(object_store: ObjectStore) -> Server:
    return Server(object_store.endpoint, object_store.access_key, object_store.secret_key)


class TestVersitygw(S3Contract):
    def test_a_wrong_key_is_said(self, place: S3Place, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "wrong")
        with pytest.raises(UserError, match=r"the secret key is another one.*AWS_SECRET_ACCESS_KEY"):
            open_store(place.url)
        monkeypatch.setenv("AWS_ACCESS_KEY_ID", "nobody")
        with pytest.raises(UserError, match=r"does not know the access key .*key nobody"):
            open_store(place.url)
