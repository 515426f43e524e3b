"""A module's text, taken apart: what each of its definitions says, and which names that needs.

Comments, docstrings, positions, annotations of functions, and the words of Endcap's own errors are left out: no output
depends on them. Annotations in classes stay, since Pydantic and dataclasses read them; those of parameters name what a
function is given, whose methods it calls.
"""

from __future__ import annotations

import ast
import hashlib
import re
from collections.abc import Iterator
from dataclasses import asdict, dataclass, field
from typing import Any

ImportTarget = tuple[int, str, str]
"""What an import names: its level (of `from .` and the like), its module, and the name in it; an empty name: the
module itself."""

_DOTTED = re.compile(r"[A-Za-z_]\w*(\.[A-Za-z_]\w*)+(:[A-Za-z_]\w*)?")
_ERRORS = "endcap.errors"
_FUNCTIONS = (ast.FunctionDef, ast.AsyncFunctionDef)
_DIGITS = 16


@dataclass(frozen=True)
class CodePart:
    """A statement at the top level of a module.

    Attributes
    ----------
    digest
        The digest of its code.
    binds
        The names that it defines. If it defines none, it counts whenever anything of the module counts.
    uses
        The names that it reads, with the attributes that follow, such as ``parts.table``.
    imports
        The imports inside it, by local name.
    strings
        Texts in it that may name a module, such as ``endcap.models.ease`` or ``acme.markov:Markov``.
    """

    digest: str
    binds: list[str] = field(default_factory=list)
    uses: list[str] = field(default_factory=list)
    imports: dict[str, list[ImportTarget]] = field(default_factory=dict)
    strings: list[str] = field(default_factory=list)


@dataclass(frozen=True)
class ParsedModule:
    """A parsed module.

    Attributes
    ----------
    imports
        The imports of its top level, by local name.
    parts
        Its other statements.
    """

    imports: dict[str, list[ImportTarget]]
    parts: list[CodePart]

    def to_json(self) -> dict[str, Any]:
        """Return the module as JSON values, which `from_json` takes."""
        return asdict(self)

    @classmethod
    def from_json(cls, document: dict[str, Any]) -> ParsedModule:
        """Read what `to_json` returned."""
        return cls(_parse_targets(document["imports"]), [_parse_part(part) for part in document["parts"]])


def parse_module(text: str | bytes) -> ParsedModule:
    """Parse the source of a module. Raises SyntaxError."""
    imports: dict[str, list[ImportTarget]] = {}
    statements: list[ast.stmt] = []
    for statement in _skip_type_checking(ast.parse(text).body):
        if isinstance(statement, ast.Import | ast.ImportFrom):
            _record_import(statement, imports)
        elif not _is_text(statement):
            statements.append(statement)
    errors = {name for name, targets in imports.items() if any(target[1] == _ERRORS for target in targets)}
    parts = []
    for statement in statements:
        reader = _PartReader(errors)
        reader.read(statement)
        # What stands under an `if`, a `try` or the like is bound there, and counts like any other effect.
        bound = _list_bound_names(statement)
        if not isinstance(statement, (*_FUNCTIONS, ast.ClassDef, ast.Assign, ast.AnnAssign)):
            imports.update({name: [*imports.get(name, []), *targets] for name, targets in reader.imports.items()})
            bound = []
        parts.append(reader.part(bound))
    return ParsedModule(imports, parts)


class _PartReader:
    """Writes a statement's syntax down, and what it names on the way."""

    def __init__(self, errors: set[str]) -> None:
        self._errors = errors
        self._written: list[str] = []
        self._uses: dict[str, None] = {}
        self._strings: dict[str, None] = {}
        self.imports: dict[str, list[ImportTarget]] = {}

    def part(self, binds: list[str]) -> CodePart:
        digest = hashlib.sha256("".join(self._written).encode("utf-8", "surrogatepass")).hexdigest()[:_DIGITS]
        return CodePart(digest, binds, list(self._uses), self.imports, list(self._strings))

    def read(self, node: ast.AST, *, in_class: bool = False) -> None:
        if isinstance(node, ast.Import | ast.ImportFrom):
            _record_import(node, self.imports)
            self._written.append(f"({ast.unparse(node)})")
            return
        if isinstance(node, ast.Name):
            self._uses[node.id] = None
        elif isinstance(node, ast.Attribute) and (chain := _join_chain(node)):
            self._uses[chain] = None
            self._written.append(f"({chain})")
            return
        elif isinstance(node, ast.Constant):
            if isinstance(node.value, str) and _DOTTED.fullmatch(node.value):
                self._strings[node.value] = None
            self._written.append(f"({type(node.value).__name__} {node.value!r})")
            return
        elif isinstance(node, ast.Raise) and (error := self._own_error(node)):
            node = ast.Raise(error)  # its words, and what they are made of, are in no output
        elif isinstance(node, ast.arg) and node.annotation is not None:
            # The text of a type says nothing, but the methods of what is handed in are called.
            self._uses |= dict.fromkeys(_find_chains(node.annotation))
        self._written.append(f"({type(node).__name__}")
        for name, value in ast.iter_fields(node):
            if value is None or value == [] or self._is_hint(node, name, in_class):
                continue
            self._written.append(f" {name}")
            if isinstance(value, list):
                inside = isinstance(node, ast.ClassDef) and name == "body"
                for item in _skip_type_checking(value) if name in ("body", "orelse") else value:
                    if not (isinstance(item, ast.AST) and _is_text(item)):
                        self._value(item, inside)
            else:
                self._value(value, False)
        self._written.append(")")

    def _value(self, value: Any, in_class: bool) -> None:
        if isinstance(value, ast.AST):
            self.read(value, in_class=in_class)
        else:
            self._written.append(f" {value!r}")

    def _is_hint(self, node: ast.AST, name: str, in_class: bool) -> bool:
        """Whether a field is a type that nothing reads while the code runs."""
        if name in ("returns", "type_comment", "type_params", "ctx", "kind"):
            return True
        return name == "annotation" and (isinstance(node, ast.arg) or not in_class)

    def _own_error(self, node: ast.Raise) -> ast.expr | None:
        """The class of an error of Endcap's own that is made and raised here."""
        error = node.exc
        if isinstance(error, ast.Call) and isinstance(error.func, ast.Name) and error.func.id in self._errors:
            return error.func
        return None


def _skip_type_checking(body: list[Any]) -> Iterator[Any]:
    """A body's statements, without those that only a type checker sees."""
    for statement in body:
        if isinstance(statement, ast.If) and _join_chain(statement.test).endswith("TYPE_CHECKING"):
            yield from statement.orelse
        else:
            yield statement


def _is_text(node: ast.AST) -> bool:
    """Whether a statement is a text alone: a docstring, or one of an attribute."""
    return isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant) and isinstance(node.value.value, str)


def _join_chain(node: ast.AST) -> str:
    """`a.b.c` of a name and its attributes; empty: something else."""
    names = []
    while isinstance(node, ast.Attribute):
        names.append(node.attr)
        node = node.value
    return ".".join([node.id, *reversed(names)]) if isinstance(node, ast.Name) else ""


def _find_chains(node: ast.AST) -> Iterator[str]:
    """All names in an expression, each with its attributes."""
    if chain := _join_chain(node):
        yield chain
    else:
        for inner in ast.iter_child_nodes(node):
            yield from _find_chains(inner)


def _list_bound_names(statement: ast.stmt) -> list[str]:
    """Names that a definition or a plain assignment binds; none where it does anything else."""
    if isinstance(statement, (*_FUNCTIONS, ast.ClassDef)):
        return [statement.name]
    targets = statement.targets if isinstance(statement, ast.Assign) else [getattr(statement, "target", None)]
    names: list[str] = []
    for target in targets:
        elements = target.elts if isinstance(target, ast.Tuple | ast.List) else [target]
        if not all(isinstance(element, ast.Name) for element in elements):
            return []
        names += [element.id for element in elements if isinstance(element, ast.Name)]
    return names


def _record_import(statement: ast.Import | ast.ImportFrom, imports: dict[str, list[ImportTarget]]) -> None:
    for alias in statement.names:
        if isinstance(statement, ast.ImportFrom):
            name, target = alias.asname or alias.name, (statement.level, statement.module or "", alias.name)
        elif alias.asname:
            name, target = alias.asname, (0, alias.name, "")
        else:
            name, target = alias.name.partition(".")[0], (0, alias.name.partition(".")[0], "")
        imports.setdefault(name, []).append(target)


def _parse_targets(imports: dict[str, list[Any]]) -> dict[str, list[ImportTarget]]:
    return {name: [(level, module, of) for level, module, of in targets] for name, targets in imports.items()}


def _parse_part(document: dict[str, Any]) -> CodePart:
    return CodePart(**{**document, "imports": _parse_targets(document["imports"])})
