"""Models in the notation of the command line, such as `big=gru4rec,width=200`."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from endcap.errors import UserError
from endcap.project.contestants import SPEC_MODEL
from endcap.spec.yaml_tree import parse_yaml

if TYPE_CHECKING:
    from endcap.project import Project

ENVIRONMENT = "env:"
FORMS = f"NAME, NAME,KEY=VALUE,…, a mapping {{name: NAME, …}}, {SPEC_MODEL}, FILE.yaml or {ENVIRONMENT}NAME"
"""The forms of a model."""
_LABELLED = re.compile(r"([^=,:{}]+)=(.+)", re.DOTALL)
_SETTING = re.compile(r"\s*([A-Za-z_][\w-]*(?:\.[\w-]+)*)\s*=(.*)", re.DOTALL)


@dataclass(frozen=True)
class ModelChoice:
    """One `--model`. label: its label; None without one. source: the text after the label."""

    text: str
    label: str | None
    source: str

    @classmethod
    def of(cls, text: str) -> ModelChoice:
        """Parse `LABEL=MODEL`, or a model alone."""
        labelled = _LABELLED.fullmatch(text.strip())
        return cls(text, *labelled.groups()) if labelled else cls(text, None, text.strip())

    def build_model(self, project: Project, open_with_overlay: Callable[[str], Project]) -> Any:
        """Build the model in a form that `project.compare` takes.

        Parameters
        ----------
        project
            The project of the spec.
        open_with_overlay
            Opens the project with an overlay: a file, or ``env:NAME``.

        Raises
        ------
        UserError
            The text has none of the forms `FORMS`.
        """
        model = self._build(project, open_with_overlay)
        return model if self.label is None else {self.label: model}

    def _build(self, project: Project, open_with_overlay: Callable[[str], Project]) -> Any:
        if self.source.startswith(ENVIRONMENT) or self.source.endswith((".yaml", ".yml")):
            return open_with_overlay(self.source)
        if self.source.startswith("{"):
            section = self._parse_value(self.source)
            if not isinstance(section, dict) or "name" not in section:
                raise self._make_error("a mapping without a model's `name`")
            return section
        name, *settings = split_parts(self.source)
        if name == SPEC_MODEL and not settings:
            return SPEC_MODEL
        own = project.recommender.model.model_dump(mode="json", exclude_none=True)
        section = dict(own) if name == SPEC_MODEL else {"name": name.strip()}
        for setting in settings:
            match = _SETTING.fullmatch(setting)
            if match is None:
                raise self._make_error(f"{setting!r}, which is no KEY=VALUE")
            _put_value(section, match[1].split("."), self._parse_value(match[2]))
        return section

    def _parse_value(self, text: str) -> Any:
        node, problems = parse_yaml(text)
        if problems:
            raise self._make_error(problems[0].found)
        return None if node is None else node.plain()

    def _make_error(self, text: str) -> UserError:
        return UserError(
            f"--model {self.text}: found {text}; allowed: [LABEL=] and {FORMS}",
            code="cli.model-malformed",
            model=self.text,
            found=text,
        )


def split_parts(text: str) -> Iterator[str]:
    """Split a text at its commas, except at those within brackets and quotes."""
    depth, quote, part = 0, "", ""
    for letter in text:
        if quote:
            quote = "" if letter == quote else quote
        elif letter in "'\"":
            quote = letter
        elif letter in "[{(":
            depth += 1
        elif letter in ")}]":
            depth -= 1
        if letter == "," and not depth and not quote:
            yield part
            part = ""
        else:
            part += letter
    yield part


def _put_value(section: dict[str, Any], path: list[str], value: Any) -> None:
    """Set a value in nested mappings; None removes the key."""
    *above, last = path
    for name in above:
        inner = section.get(name)
        section[name] = dict(inner) if isinstance(inner, dict) else {}
        section = section[name]
    if value is None:
        section.pop(last, None)
    else:
        section[last] = value
