"""For tests of what is written against Endcap; needs pytest."""

import pytest

# So that a failed assertion of the suites tells its values, as those of a test file do.
pytest.register_assert_rewrite("endcap.testing.contract", "endcap.testing.preprocessing")

from endcap.testing.contract import N_ITEMS, ModelContract, checkerboard, fitted  # noqa: E402
from endcap.testing.preprocessing import PreprocessorContract  # noqa: E402

__all__ = ["N_ITEMS", "ModelContract", "PreprocessorContract", "checkerboard", "fitted"]
