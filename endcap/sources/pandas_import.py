"""PyArrow without pandas, until somebody imports pandas.

PyArrow asks of each value that it is given whether it is of pandas, and imports pandas for that: a third of a second
of processor time in each process that reads a log or makes features, neither of which needs it. A value of pandas
exists only where pandas has been imported.
"""

from __future__ import annotations

import contextlib
import sys
import threading
from collections.abc import Sequence
from importlib.abc import MetaPathFinder
from importlib.machinery import ModuleSpec
from types import ModuleType
from typing import Any

import pyarrow as pa
from pyarrow.lib import _pandas_api

_PANDAS = "pandas"


class _PandasFinder(MetaPathFinder):
    """Hides pandas from PyArrow's first attempt. The next import of pandas has PyArrow look for it again."""

    def __init__(self) -> None:
        self.hidden_from: int | None = threading.get_ident()

    def find_spec(self, name: str, path: Sequence[str] | None, target: ModuleType | None = None) -> ModuleSpec | None:
        if name != _PANDAS:
            return None
        if self.hidden_from == threading.get_ident():
            raise ModuleNotFoundError(f"{name} is not needed yet", name=name)
        finders = (finder for finder in sys.meta_path if finder is not self and hasattr(finder, "find_spec"))
        spec = next(filter(None, (finder.find_spec(name, path, target) for finder in finders)), None)
        if spec is not None and spec.loader is not None:
            self._add_after_import(spec.loader)
        return spec

    def _add_after_import(self, loader: Any) -> None:
        """Have PyArrow look for pandas as soon as a loader has executed it. A spec may also be found and not loaded."""
        execute = loader.exec_module

        def execute_and_tell(module: ModuleType) -> None:
            execute(module)
            sys.meta_path.remove(self)
            with contextlib.suppress(ImportError):  # too old a pandas for PyArrow
                _pandas_api.is_v1()  # has PyArrow import pandas, and keep what it needs of it

        loader.exec_module = execute_and_tell


def defer_pandas() -> None:
    """Have PyArrow know pandas from the moment on at which somebody imports it, and not import it by itself.

    Does nothing in a process that has imported pandas.
    """
    if _PANDAS in sys.modules or any(isinstance(finder, _PandasFinder) for finder in sys.meta_path):
        return
    finder = _PandasFinder()
    sys.meta_path.insert(0, finder)
    pa.scalar(0)  # looks for pandas, once
    finder.hidden_from = None
