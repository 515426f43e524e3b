"""The tables that a statement reads, by sqlglot's tree of it."""

from __future__ import annotations

from sqlglot import exp
from sqlglot.optimizer.scope import traverse_scope


def list_tables(tree: exp.Expr) -> tuple[str, ...]:
    """List the tables that a statement reads, each once, in the order of their names, parts joined by dots.

    A name of WITH, in any case, hides a table, but not inside its own definition.
    """
    tree = tree.copy()
    commons = list(tree.find_all(exp.CTE))
    named = {common.alias.lower() for common in commons}
    for common in commons:
        common.args["alias"].this.set("this", common.alias.lower())
    for table in tree.find_all(exp.Table):
        if _is_plain(table) and not table.db and table.name.lower() in named:
            table.this.set("this", table.name.lower())
    sources = [source for scope in traverse_scope(tree) for source in scope.sources.values()]
    # No scope is made for a pivot, so all tables of the tree count that no name of WITH hides.
    unscoped = [table for table in tree.find_all(exp.Table) if table.db or table.name not in named]
    tables = [source for source in sources if isinstance(source, exp.Table)] + unscoped
    names = {".".join(part.name for part in table.parts) for table in tables if _is_plain(table)}
    return tuple(sorted(name for name in names if name))


def _is_plain(table: exp.Table) -> bool:
    return isinstance(table.this, exp.Identifier)
