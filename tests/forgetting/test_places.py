"""Every place that may hold shoppers is registered with what forgetting does to it, or why it holds none."""

from __future__ import annotations

from endcap.forgetting import ARTIFACTS, DOCUMENTS
from endcap.retention import KINDS as REMOVABLE
from endcap.steps import STEPS
from endcap.store.documents import KINDS


def test_each_kind_of_artifacts_is_searched() -> None:
    kinds = {step.kind.partition("/")[0] for step in STEPS.values() if step.makes and step.kind}
    assert {*REMOVABLE, *kinds} - ARTIFACTS.keys() - DOCUMENTS.keys() == set()


def test_each_kind_of_documents_is_registered_once() -> None:
    assert KINDS.keys() - ARTIFACTS.keys() == DOCUMENTS.keys()
    assert not ARTIFACTS.keys() & DOCUMENTS.keys()
