import pytest

# Suites that several test modules share.
pytest.register_assert_rewrite("tests.store.contract", "tests.store.s3_contract")
