"""A statement before it runs: what it reads, what its key counts, and what is refused with its place."""

from __future__ import annotations

import pytest

from endcap.errors import UserError
from endcap.sql.duckdb_engine import parse


def tables(text: str) -> tuple[str, ...]:
    return parse("clean", text).tables


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("select * from b join A using (x)", ("a", "b")),
        ("from a", ("a",)),
        ("with a as (select * from a where x) select * from a", ("a",)),
        ("with c as (select * from a) select * from c where y in (select y from b)", ("a", "b")),
        ("with C as (select * from a) select * from c", ("a",)),
        ("with c as (select * from s.c) select * from c join s.c using (x)", ("s.c",)),
        ("with recursive r as (select 1 as n union all select n + 1 from r, a) select * from r", ("a",)),
        ("pivot a on type using count(*)", ("a",)),
        ("select * from (pivot a on type using count(*)) join b using (x)", ("a", "b")),
        ("select * from range(3), unnest([1, 2]) u(x), a", ("a",)),
        ("select 'from b' as text, 1 as \"from c\" from a -- from d", ("a",)),
        ("values (1)", ()),
    ],
)
def test_the_tables_that_a_statement_reads_are_those_of_no_with(text: str, expected: tuple[str, ...]) -> None:
    assert tables(text) == expected


def test_parameters_are_named() -> None:
    assert parse("clean", "select $b, '$c' from t where x > $a and y = $b").parameters == ("a", "b")


def test_comments_white_space_and_the_case_of_keywords_do_not_count() -> None:
    first = parse("clean", "select x, 'A b' as \"N\" from t where y = 1")
    second = parse("clean", "SELECT x, -- why\n  'A b' AS \"N\"\nFROM t /* here */ WHERE y=1 ;\n")
    assert first.canonical == second.canonical
    for other in ("select x, 'a b' as \"N\" from t where y = 1", "select X, 'A b' as \"N\" from t where y = 1"):
        assert parse("clean", other).canonical != first.canonical


@pytest.mark.parametrize(
    ("text", "line", "column"),
    [
        ("selec 1", 1, 1),
        ("select item,\n  type frm\nclicks x y", 3, 1),
        ("select 'ü', item\nfrom\n  where x", 3, 3),
        ("select (1", 1, 9),
        ("select\n 'open", 2, 2),
    ],
)
def test_a_syntax_error_has_line_and_column(text: str, line: int, column: int) -> None:
    with pytest.raises(UserError) as refused:
        parse("clean", text)
    assert refused.value.code == "sql.syntax"
    assert (refused.value.fields.get("line"), refused.value.fields.get("column")) == (line, column)


@pytest.mark.parametrize(
    "text",
    [
        "", "-- nothing", "select 1; select 2", "create table x (a int)", "copy t to 'x'", "attach 'x.db'",
        "install httpfs", "set threads = 1", "describe t", "summarize t", "insert into t select 1", "pragma version",
    ],
)  # fmt: skip
def test_what_is_not_one_select_is_refused(text: str) -> None:
    with pytest.raises(UserError) as refused:
        parse("clean", text)
    assert refused.value.code == "sql.not-a-select"


@pytest.mark.parametrize(
    "text",
    [
        "select random() from t",
        "select x from t where day < current_date",
        "select now() - time from t",
        "select uuid(), x from t",
        "select today() from t",
        "select x from t where time < current_timestamp",
        "select x from t using sample 10%",
        "select x from t tablesample 10%",
        "select localtimestamp from t",
    ],
)
def test_what_gives_other_rows_each_time_is_refused(text: str) -> None:
    with pytest.raises(UserError) as refused:
        parse("clean", text)
    assert refused.value.code == "sql.not-repeatable"


def test_names_and_texts_are_no_calls_and_a_statement_may_stop_by_itself() -> None:
    parse("clean", "select random, \"now\" (1), t.current_date, 'today()' from t".replace('"now" (1)', '"now"'))
    parse("clean", "select case when x then error('mine') end from t")
