"""A statement of SQL as its step sees it before anything runs: its tables, its parameters, its form for the key."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import sqlglot
from sqlglot import Token, TokenType, exp
from sqlglot.errors import ParseError, SqlglotError, TokenError

from endcap.errors import UserError
from endcap.sources.sql_tables import list_tables
from endcap.sql.faults import Place

Json = list[Any]
_ALONE = {"localtime", "localtimestamp"}
"""Functions of the clock that are written without brackets, beside those that begin with `current_`."""


@dataclass(frozen=True)
class Statement:
    """One SELECT.

    Attributes
    ----------
    step
        The step that it is of, for messages.
    text
        The text as it was written.
    tables
        The tables that it reads, each once, in the order of their names. Names of WITH are none.
    parameters
        The parameters that it reads, likewise, without `$`.
    ordered
        Whether it says the order of its rows.
    canonical
        Its tokens, without comments and white space: kind and text of each.
    """

    step: str
    text: str
    tables: tuple[str, ...]
    parameters: tuple[str, ...]
    ordered: bool
    canonical: Json

    def check_tables(self, tables: Collection[str]) -> None:
        """Raise UserError if the statement reads a table that is none of these."""
        for name in self.tables:
            if name not in tables:
                raise self._unknown_table(name, tables)

    def check_parameters(self, parameters: Collection[str]) -> None:
        """Raise UserError if the statement reads a parameter that is none of these."""
        for name in self.parameters:
            if name not in parameters:
                raise UserError(
                    f"step {self.step}: the statement reads the parameter {name}, and there is none of this name; "
                    f"known are {', '.join(sorted(parameters))}. Add it to sql.parameters, or correct the name",
                    code="sql.parameter-unknown",
                    step=self.step,
                    parameter=name,
                    known=sorted(parameters),
                )

    def _unknown_table(self, name: str, tables: Collection[str]) -> UserError:
        known = ", ".join(sorted(tables)) or "none"
        if any(mark in name for mark in ("/", ".", ":")):
            return UserError(
                f"step {self.step}: the statement reads {name!r}, which is no named input. A statement reads no file, "
                f"no address and no other database; name files under the step's sql.inputs (now: {known})",
                code="sql.outside-access",
                step=self.step,
                table=name,
                known=sorted(tables),
            )
        return UserError(
            f"step {self.step}: there is no table {name!r} at this point of the run; known are {known}. Add it to the "
            "step's sql.inputs, or correct the name",
            code="sql.unknown-table",
            step=self.step,
            table=name,
            known=sorted(tables),
        )


def parse_statement(step: str, text: str, dialect: str, unstable: Collection[str]) -> Statement:
    """Parse a statement, and refuse what cannot give the same rows again.

    Parameters
    ----------
    step
        The step's name, for messages.
    text
        The statement.
    dialect
        The name of the engine's dialect, as sqlglot has it.
    unstable
        The functions of the engine, in small letters, that give something else at each call, such as `random`, or that
        ask the clock or the server.

    Raises
    ------
    UserError
        The text has a mistake (`sql.syntax`, with line and column), is not exactly one SELECT (`sql.not-a-select`), or
        calls an unstable function or draws a sample (`sql.not-repeatable`).
    """
    try:
        tokens = sqlglot.tokenize(text, read=dialect)
        parsed = [tree for tree in sqlglot.parse(text, read=dialect) if tree is not None]
    except ParseError as error:
        raise _syntax_error(step, error) from None
    except (TokenError, SqlglotError) as error:
        words = str(error).splitlines()[0]
        raise UserError(f"{Place(step)}: {words}. Correct the statement", code="sql.syntax", step=step) from None
    selects = (exp.Query, exp.Pivot, exp.Values)
    if len(parsed) != 1 or not isinstance(parsed[0], selects) or parsed[0].find(exp.Into):
        kinds = [tree.key.upper() for tree in parsed]
        raise UserError(
            f"step {step}: a step of SQL has exactly one SELECT; this is {' and '.join(kinds) or 'no statement'}. "
            "Make several steps of several statements",
            code="sql.not-a-select",
            step=step,
            statements=kinds,
        )
    tree = parsed[0]
    _check_repeatable(step, tree, tokens, unstable)
    ordered = bool(tree.args.get("order"))
    tables = list_tables(tree)
    if dialect in ("duckdb", "spark"):  # whose names are the same in any case
        tables = _sort_names(name.lower() for name in tables)
    return Statement(step, text, tables, _list_parameters(tree), ordered, _make_canonical(tokens))


def _syntax_error(step: str, error: ParseError) -> UserError:
    first: dict[str, Any] = error.errors[0] if error.errors else {}
    words, place = str(first.get("description") or error).split(" <Token")[0], Place(step)
    if first.get("line") and first.get("col"):
        # sqlglot gives the column at which the token ends.
        place = Place(step, first["line"], max(1, first["col"] - len(first.get("highlight") or " ") + 1))
        words += f" at {first['highlight']!r}" if first.get("highlight") else ""
    return UserError(f"{place}: {words}. Correct the statement", code="sql.syntax", **place.fields)


def _list_parameters(tree: exp.Expr) -> tuple[str, ...]:
    return _sort_names(node.name for node in tree.find_all(exp.Parameter, exp.Placeholder))


def _sort_names(names: Iterable[str]) -> tuple[str, ...]:
    return tuple(sorted({name for name in names if name}))


def _make_canonical(tokens: Sequence[Token]) -> Json:
    """Tokens as a key counts them: a keyword in any case is the same, a name or a text is not."""
    kept = (TokenType.STRING, TokenType.IDENTIFIER, TokenType.VAR, TokenType.NUMBER)
    pairs = [
        [token.token_type.name, token.text if token.token_type in kept else token.text.upper()] for token in tokens
    ]
    while pairs and pairs[-1][0] == TokenType.SEMICOLON.name:
        pairs.pop()
    return pairs


def _check_repeatable(step: str, tree: exp.Expr, tokens: Sequence[Token], unstable: Collection[str]) -> None:
    for number, token in enumerate(tokens):
        name = token.text.lower()
        if token.token_type in (TokenType.STRING, TokenType.IDENTIFIER) or _follows_dot(tokens, number):
            continue
        called = number + 1 < len(tokens) and tokens[number + 1].token_type == TokenType.L_PAREN
        if (called and name in unstable) or token.token_type.name.startswith("CURRENT_") or name in _ALONE:
            place = Place(step, token.line, token.col - len(token.text) + 1)
            raise _not_repeatable(f"calls {token.text}", place)
    if tree.find(exp.TableSample):
        raise _not_repeatable("draws a random sample", Place(step))


def _follows_dot(tokens: Sequence[Token], number: int) -> bool:
    return number > 0 and tokens[number - 1].token_type == TokenType.DOT


def _not_repeatable(deed: str, place: Place) -> UserError:
    return UserError(
        f"{place}: the statement {deed}, so the same inputs could give other rows, and Endcap reuses the rows of the "
        "same inputs. Read the run's date as $logical_date; draw a share of rows by hash(column) % 10 = 0",
        code="sql.not-repeatable",
        **place.fields,
    )
