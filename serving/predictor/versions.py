"""A package made with other versions than serve it: what is said, and what is refused.

A package of another *format* is refused when it is loaded. Of Endcap, torch and NumPy another major or minor version is
served with a warning; the example request, ranked again before anything is served, is the proof that the answers are
the same.
"""

from __future__ import annotations

from collections.abc import Mapping

LIBRARIES = ("endcap", "torch", "numpy")


def find_mismatches(made_with: Mapping[str, str], here: Mapping[str, str]) -> dict[str, tuple[str, str]]:
    """By library, the version that made the package and the one here, where major or minor differ."""
    return {
        name: (made_with.get(name, "none"), here.get(name, "none"))
        for name in LIBRARIES
        if _minor(made_with.get(name, "none")) != _minor(here.get(name, "none"))
    }


def _minor(version: str) -> list[str]:
    return version.partition("+")[0].split(".")[:2]
