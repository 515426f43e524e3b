"""What `redact` hides, and what it leaves as it is."""

from __future__ import annotations

import pickle

import pytest

from endcap.errors import UserError
from endcap.redaction import find_secret, redact, redact_all
from endcap.runs import Fault


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("redis://:hunter2@redis:6379/0", "redis://…@redis:6379/0"),
        ("redis://:hun/ter#2?@x@redis:6379", "redis://…@redis:6379"),
        ("postgresql+psycopg2://me:hunter2@db/mlflow", "postgresql+psycopg2://…@db/mlflow"),
        ("https://hunter2@host/x", "https://…@host/x"),
        ("https://me:hun/ter2@host/x", "https://…@host/x"),
        ("s3://key:hun/ter2@bucket/x", "s3://…@bucket/x"),
        ("cannot reach https://a:hunter2@b/c: it is away", "cannot reach https://…@b/c: it is away"),
        ("redis://redis:6379/0?password=hunter2&db=1", "redis://redis:6379/0?password=…&db=1"),
        ("postgresql://db/mlflow?sslpassword=hunter2", "postgresql://db/mlflow?sslpassword=…"),
        ("https://s3/x?X-Amz-Signature=hunter2&a=1", "https://s3/x?X-Amz-Signature=…&a=1"),
        ("Authorization: Bearer hunter2hunter2", "Authorization: Bearer …"),
        ("host=db password=hunter2 dbname=mlflow", "host=db password=… dbname=mlflow"),
        ("connect(user='me', password='hunter2')", "connect(user='me', password='…')"),
        ("{'user': 'me', 'password': 'hunter/2'}", "{'user': 'me', 'password': '…'}"),
        (
            "POST https://hooks.slack.com/services/T0/B0/hunter2 failed",
            "POST https://hooks.slack.com/services/… failed",
        ),
        ("AWS_SECRET_ACCESS_KEY=hunter2", "AWS_SECRET_ACCESS_KEY=…"),
    ],
)
def test_a_secret_is_hidden_wherever_it_stands(text: str, shown: str) -> None:
    assert redact(text) == shown
    assert redact(shown) == shown
    assert find_secret(text) or text == "https://hunter2@host/x"  # a user, for all that anybody can tell


@pytest.mark.parametrize(
    "text",
    [
        "http://mlflow:5000",
        "file:///home/me@work/store:1",
        "sqlite:////home/me@work/mlflow.db",
        "s3://bucket/a@b",
        "https://host/@scope/package",
        "redis://redis:6379/0?db=1",
        "me@example.org wrote 3 rows: 2 good",
        "basic arithmetic",
        "the password: it is wrong (a password, or none)",
        "max_tokens=5 {'token': 'word'}",
    ],
)
def test_what_is_no_secret_stays(text: str) -> None:
    assert redact(text) == text
    assert find_secret(text) is None


def test_errors_hold_no_secret_in_message_fields_or_another_process() -> None:
    address = "redis://:hunter2@redis"
    error = UserError(f"{address} is away", code="online.unavailable", store=address, more=[{"at": address}], count=2)
    for one in (error, pickle.loads(pickle.dumps(error))):
        assert one.fields == {"store": "redis://…@redis", "more": [{"at": "redis://…@redis"}], "count": 2}
        assert "hunter2" not in str(one) + str(Fault.of(one).to_json())


def test_values_that_are_no_text_come_back_as_they_are() -> None:
    value = {"a": (1, "https://u:p@h"), "b": None, "c": 1.5}
    assert redact_all(value) == {"a": (1, "https://…@h"), "b": None, "c": 1.5}
