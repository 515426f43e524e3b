"""Packages that were made with other versions of libraries than those that serve them.

A package of another *format* is refused when it is loaded. A package that was made with another major or minor version
of Endcap, torch or NumPy is served with a warning. The example request is ranked again before anything is served, which
proves that the answers are the same.
"""

from __future__ import annotations

from collections.abc import Mapping

LIBRARIES = ("endcap", "torch", "numpy")


def find_mismatches(made_with: Mapping[str, str], here: Mapping[str, str]) -> dict[str, tuple[str, str]]:
    """Find the libraries whose major or minor version differs.

    Parameters
    ----------
    made_with
        By library, the version that made the package.
    here
        By library, the installed version.

    Returns
    -------
    dict
        By library, both versions; "none" if there is none.
    """
    return {
        name: (made_with.get(name, "none"), here.get(name, "none"))
        for name in LIBRARIES
        if _minor(made_with.get(name, "none")) != _minor(here.get(name, "none"))
    }


def _minor(version: str) -> list[str]:
    return version.partition("+")[0].split(".")[:2]
