"""Quantities are read as Kubernetes reads them, and reading a spec imports no client for that."""

from __future__ import annotations

import subprocess
import sys

import pytest
from pydantic import TypeAdapter, ValidationError

from endcap.cluster.quantities import parse_quantity
from endcap.spec.pod import Quantity

AMOUNTS = {
    "100m": 0.1,
    "1930m": 1.93,
    "250u": 0.00025,
    "1.5": 1.5,
    "1e3": 1000,
    "2E2": 200,
    "1.5k": 1500,
    "2Gi": 2 * 2**30,
    "1P": 10**15,
    "1Pi": 2**50,
    "1Ei": 2**60,
}
BAD = ["", "a", "16 gigabytes", "1ki", "1GB", "1.2.3", "NaN", "Infinity", "m"]


@pytest.mark.parametrize(("text", "amount"), AMOUNTS.items())
def test_a_quantity_is_read_and_a_spec_may_have_it(text: str, amount: float) -> None:
    assert parse_quantity(text) == amount
    assert TypeAdapter(Quantity).validate_python(text) == text


@pytest.mark.parametrize("text", BAD)
def test_what_is_no_quantity_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match="is no quantity"):
        parse_quantity(text)
    with pytest.raises(ValidationError):
        TypeAdapter(Quantity).validate_python(text)


def test_numbers_are_quantities_too() -> None:
    assert (parse_quantity(2), parse_quantity(0.5)) == (2.0, 0.5)


def test_the_kubernetes_client_is_imported_only_when_a_quantity_is_read() -> None:
    code = "import sys, endcap.deploy.capacity, endcap.spec.kubernetes; sys.exit('kubernetes' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
