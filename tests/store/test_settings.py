"""What the environment says of the S3 server and of the cache."""

from __future__ import annotations

from pathlib import Path

import pytest

from endcap.errors import StorageError, UserError
from endcap.store import open_store
from endcap.store.cache import find_cache_folder
from endcap.store.s3 import split_address
from endcap.store.s3_settings import read_s3_settings
from tests.refusals import refused

KEYS = {"AWS_ACCESS_KEY_ID": "key", "AWS_SECRET_ACCESS_KEY": "hidden"}


@pytest.mark.parametrize(
    ("given", "endpoint", "region"),
    [
        ({"ENDCAP_S3_ENDPOINT": "minio:9000"}, "https://minio:9000", "us-east-1"),
        ({"ENDCAP_S3_ENDPOINT": "http://10.0.0.1:9000/", "AWS_REGION": "eu"}, "http://10.0.0.1:9000", "eu"),
        ({"AWS_ENDPOINT_URL": "http://a", "ENDCAP_S3_ENDPOINT": "b"}, "https://b", "us-east-1"),
        ({"AWS_ENDPOINT_URL": "http://a", "ENDCAP_S3_REGION": "x", "AWS_REGION": "y"}, "http://a", "x"),
        # Amazon's own endpoints tell the region themselves.
        ({"ENDCAP_S3_ENDPOINT": "s3.eu-central-1.amazonaws.com"}, "https://s3.eu-central-1.amazonaws.com", None),
    ],
)
def test_an_endpoint_is_a_host_or_an_address(given: dict[str, str], endpoint: str, region: str | None) -> None:
    settings = read_s3_settings(KEYS | given)
    assert (settings.endpoint, settings.region) == (endpoint, region)
    assert "hidden" not in repr(settings)


def test_one_error_names_all_missing_variables(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("ENDCAP_S3_ENDPOINT", "AWS_ENDPOINT_URL", "AWS_ENDPOINT_URL_S3", *KEYS):
        monkeypatch.delenv(name, raising=False)
    names = ["ENDCAP_S3_ENDPOINT", "AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"]
    with refused(UserError, "store.settings-missing", variables=names, secret="endcap-store"):
        open_store("s3://shop/store")
    with refused(UserError, "store.settings-missing", variables=["AWS_SECRET_ACCESS_KEY"]):
        read_s3_settings({"ENDCAP_S3_ENDPOINT": "a", "AWS_ACCESS_KEY_ID": "key"})


@pytest.mark.parametrize(
    "endpoint", ["ftp://host", "host:port", "http://host/bucket", "http://me:you@host", "https://"]
)
def test_a_wrong_endpoint_is_refused(endpoint: str) -> None:
    shown = endpoint.replace("http://me:you@", "…@")
    with refused(UserError, "store.endpoint-malformed", variable="ENDCAP_S3_ENDPOINT", found=shown):
        read_s3_settings(KEYS | {"ENDCAP_S3_ENDPOINT": endpoint})


def test_certificates_that_are_no_file_are_refused(tmp_path: Path) -> None:
    with refused(UserError, "store.certificates-not-found", variable="ENDCAP_S3_CA", found="/none"):
        read_s3_settings(KEYS | {"ENDCAP_S3_ENDPOINT": "a", "ENDCAP_S3_CA": "/none"})


def test_an_address_names_a_bucket_and_maybe_a_prefix() -> None:
    assert split_address("s3://shop/a/b/") == ("shop", "a/b")
    assert split_address("s3://shop") == ("shop", "")
    for wrong in ("s3://", "s3:///prefix", "s3://Shop/prefix", "s3://a/b"):
        with refused(UserError, "store.bucket-name", address=wrong):
            split_address(wrong)


def test_copies_lie_in_the_configured_or_a_writable_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ENDCAP_CACHE", str(tmp_path / "said"))
    assert find_cache_folder() == tmp_path / "said"
    monkeypatch.delenv("ENDCAP_CACHE")
    monkeypatch.delenv("XDG_CACHE_HOME", raising=False)
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    assert find_cache_folder() == tmp_path / "home" / ".cache" / "endcap"
    # As in a pod: a home that cannot be written, or none.
    (tmp_path / "file").write_text("in the way")
    monkeypatch.setattr("tempfile.gettempdir", lambda: str(tmp_path / "temp"))
    for home in (str(tmp_path / "file"), ""):
        monkeypatch.setenv("HOME", home)
        assert find_cache_folder().parent == tmp_path / "temp"
    monkeypatch.setattr("tempfile.gettempdir", lambda: str(tmp_path / "file"))
    with refused(StorageError, "store.no-cache", variable="ENDCAP_CACHE"):
        find_cache_folder()
