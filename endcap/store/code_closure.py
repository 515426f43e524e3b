"""From definition to definition: all the code that an entry needs, found by reading it.

A closure takes each definition that its entries name, in whichever module, and what those name in turn. Imports inside
functions count as those above them. A text that names a module, such as ``endcap.batch.driving``, counts as an import
of it: so the entries of child processes, and models that are loaded by name, are declared where they are named. A
package's `__init__` counts by what is imported from it. Modules of a user's own come whole, with those that they
import: they may do anything when they are imported.
"""

from __future__ import annotations

import hashlib
import json
from collections import deque
from collections.abc import Callable, Collection, Iterable
from dataclasses import dataclass, field

from endcap.store.syntax import CodePart, ImportTarget, ParsedModule, parse_module

OWN_PACKAGE = "endcap"


@dataclass(frozen=True)
class ModuleSource:
    """The source of a module.

    Attributes
    ----------
    text
        The source.
    package
        Whether it is a package's ``__init__``.
    library
        Whether it is installed among the libraries.
    parse
        The parser.
    """

    text: bytes
    package: bool
    library: bool = False
    parse: Callable[[bytes], ParsedModule] = field(default=parse_module, repr=False)

    @property
    def module(self) -> ParsedModule:
        """The parsed source."""
        return self.parse(self.text)


ReadSource = Callable[[str], ModuleSource | None]
"""A module by its dotted name; None: it has no source in Python."""


@dataclass
class CodeClosure:
    """The code that entries reach.

    Attributes
    ----------
    definitions
        Digests by module and name. The name ``#`` stands for what a module does when it is imported.
    bindings
        What each imported name stands for: module, name, module of the definition, name there.
    libraries
        Imported names that are not followed any further.
    foreign
        Those of them that code outside Endcap imports.
    """

    definitions: dict[tuple[str, str], str] = field(default_factory=dict)
    bindings: set[tuple[str, str, str, str]] = field(default_factory=set)
    libraries: set[str] = field(default_factory=set)
    foreign: set[str] = field(default_factory=set)

    @property
    def modules(self) -> set[str]:
        """The modules with a definition that counts."""
        return {module for module, _ in self.definitions}

    def digest(self) -> str:
        """Return the digest of the closure, without the libraries."""
        text = json.dumps([sorted(self.definitions.items()), sorted(self.bindings)])
        return hashlib.sha256(text.encode()).hexdigest()


def find_closure(entries: Collection[str], read: ReadSource, cut: Iterable[str] = ()) -> CodeClosure:
    """Find the code that entries reach.

    Parameters
    ----------
    entries
        Modules, or definitions such as ``endcap.training.train:train``.
    read
        Returns the source of a module by its dotted name, or None.
    cut
        Packages, modules and definitions at which the closure ends.

    Returns
    -------
    CodeClosure
        The closure.

    Raises
    ------
    ModuleNotFoundError
        An entry has no source.
    """
    walk = _ClosureWalk(
        read, frozenset(cut), {OWN_PACKAGE, *(_get_top_package(entry.partition(":")[0]) for entry in entries)}
    )
    for entry in entries:
        module, _, name = entry.partition(":")
        if read(module) is None:
            raise ModuleNotFoundError(module)
        walk.enter(module, (name,) if name else ())
    walk.go()
    return walk.closure


class _ClosureWalk:
    """From definition to definition, each once."""

    def __init__(self, read: ReadSource, cut: frozenset[str], followed: set[str]) -> None:
        self._read, self._cut, self._followed = read, cut, followed
        self._sources: dict[str, ModuleSource | None] = {}
        self._entered: set[tuple[str, tuple[str, ...]]] = set()
        self._taken: set[tuple[str, int]] = set()
        self._waiting: deque[tuple[str, tuple[str, ...]]] = deque()
        self.closure = CodeClosure()

    def enter(self, module: str, path: tuple[str, ...]) -> None:
        """Reach a definition of a module, by its name and the attributes that follow; no name: all of the module."""
        if (module, path) not in self._entered:
            self._entered.add((module, path))
            self._waiting.append((module, path))

    def go(self) -> None:
        """Follow until nothing is new."""
        while self._waiting:
            self._follow(*self._waiting.popleft())

    def _follow(self, name: str, path: tuple[str, ...]) -> None:
        if _get_top_package(name) not in self._followed:
            self.closure.libraries.add(_get_top_package(name))
            return
        source = self._read_source(name)
        if source is None or self._is_cut(name, path):
            return
        module = source.module
        if _get_top_package(name) != OWN_PACKAGE:
            # A user's module may do anything when it is imported, and so may the packages that it is in.
            for above in _list_parents(name):
                self.enter(above, ())
            if path and self._read_source(f"{name}.{path[0]}"):
                self.enter(f"{name}.{path[0]}", path[1:])
            path = ()
        if not path:
            for binding in module.imports:
                self._add_import(name, binding, module.imports[binding], ())
            for number in range(len(module.parts)):
                self._take(name, module, number)
            return
        first, *rest = path
        taken = [number for number, part in enumerate(module.parts) if first in part.binds]
        for number in taken:
            self._take(name, module, number)
        if first in module.imports:
            self._add_import(name, first, module.imports[first], tuple(rest))
        elif self._read_source(f"{name}.{first}"):
            self.enter(f"{name}.{first}", tuple(rest))
        elif not taken:
            # Made in a way that is not seen here, as by a module's `__getattr__`.
            self.enter(name, ())

    def _take(self, name: str, module: ParsedModule, number: int) -> None:
        if (name, number) in self._taken:
            return
        self._taken.add((name, number))
        part = module.parts[number]
        for bound in part.binds or ["#"]:  # more than one definition may have a name, one a branch
            self.closure.definitions[name, bound] = self.closure.definitions.get((name, bound), "") + part.digest
        self._uses(name, module, part)
        for other, effect in enumerate(module.parts):
            if not effect.binds:
                self._take(name, module, other)
        self._add_import(name, "*", module.imports.get("*", ()), ())

    def _uses(self, name: str, module: ParsedModule, part: CodePart) -> None:
        for use in part.uses:
            first, *rest = use.split(".")
            for imports in (part.imports, module.imports):
                if first in imports:
                    self._add_import(name, first, imports[first], tuple(rest))
            if any(first in other.binds for other in module.parts):
                self.enter(name, (first,))
        for text in part.strings:
            of, _, attribute = text.partition(":")
            if _get_top_package(of) in self._followed and self._read_source(of):
                self.enter(of, (attribute,) if attribute else ())

    def _add_import(self, name: str, binding: str, targets: Iterable[ImportTarget], rest: tuple[str, ...]) -> None:
        for level, module, of in targets:
            target = self._resolve_module(name, level, module)
            if _get_top_package(name) != OWN_PACKAGE and _get_top_package(target) not in self._followed:
                self._add_definition(target)
            path = () if of == "*" else (of, *rest) if of else rest
            if not self._is_cut(target, path):
                self.closure.bindings.add((name, binding, target, of))
            self.enter(target, path)

    def _add_definition(self, name: str) -> None:
        """What a user's module imports: another of that user, which lies beside it, or a library."""
        source = self._read_source(name)
        if source is not None and not source.library:
            self._followed.add(_get_top_package(name))
        else:
            self.closure.foreign.add(_get_top_package(name))

    def _resolve_module(self, name: str, level: int, module: str) -> str:
        if not level:
            return module
        source = self._read_source(name)
        up = level - 1 if source is not None and source.package else level
        base = name.split(".")[: len(name.split(".")) - up]
        return ".".join([*base, module] if module else base)

    def _is_cut(self, name: str, path: tuple[str, ...]) -> bool:
        whole = [*_list_parents(name), name]
        return not self._cut.isdisjoint(whole) or bool(path and f"{name}:{path[0]}" in self._cut)

    def _read_source(self, name: str) -> ModuleSource | None:
        if name not in self._sources:
            self._sources[name] = self._read(name)
        return self._sources[name]


def _get_top_package(name: str) -> str:
    return name.partition(".")[0]


def _list_parents(name: str) -> list[str]:
    """The packages that a module is in, from the top."""
    names = name.split(".")
    return [".".join(names[:count]) for count in range(1, len(names))]
