"""The example keeps the contract of every preprocessor: pytest docs/examples/cleaning"""

from __future__ import annotations

from endcap.testing import PreprocessorContract


class TestDropCommon(PreprocessorContract):
    document = {"class": "cleaning:DropCommon", "parameters": {"share": 0.25}}  # noqa: RUF012
