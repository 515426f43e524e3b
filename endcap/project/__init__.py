"""The library in one object: `endcap.open(spec)` gives a project, whose methods run the pipelines' steps."""

from endcap.project.factory import open_project
from endcap.project.project import Project

__all__ = ["Project", "open_project"]
