"""Every place that may hold shoppers is registered with what forgetting does to it, or why it holds none."""

from __future__ import annotations

import re
from pathlib import Path

from endcap.forgetting import ARTIFACTS, DOCUMENTS, INTAKE, ONLINE
from endcap.forgetting.services import CUSTOMER_TABLES
from endcap.online import key_names, redis
from endcap.retention import KINDS as REMOVABLE
from endcap.steps import STEPS
from endcap.store.documents import KINDS
from endcap_serving.intake.records import NAMES


def test_each_kind_of_artifacts_is_searched() -> None:
    kinds = {step.kind.partition("/")[0] for step in STEPS.values() if step.makes and step.kind}
    assert {*REMOVABLE, *kinds} - ARTIFACTS.keys() - DOCUMENTS.keys() == set()


def test_each_kind_of_documents_is_registered_once() -> None:
    assert KINDS.keys() - ARTIFACTS.keys() == DOCUMENTS.keys()
    assert not ARTIFACTS.keys() & DOCUMENTS.keys()


def test_each_kind_of_keys_of_the_online_store_is_registered() -> None:
    kinds = set(re.findall(r'_make_key\("(\w+)"', Path(redis.__file__).read_text()))
    assert kinds == ONLINE.keys()
    assert key_names.name_feature_table("customers", "d").startswith(CUSTOMER_TABLES)


def test_each_kind_of_the_intakes_files_is_registered() -> None:
    assert set(NAMES) == INTAKE.keys()
