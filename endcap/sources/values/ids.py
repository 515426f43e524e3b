"""Ids: SQL that reads them from a column's texts, and a quick test whether all texts are plain ids."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from endcap.ids import LONGEST
from endcap.sources.sql import is_blank, matches_whole, quote_name, quote_text
from endcap.sources.values.glance import find_milliseconds, is_plain, iterate_chunks, make_byte_table

AS_FLOAT = (
    "is a float such as 123.0: write ids as integers or text (in pandas: astype('Int64')), "
    "or set events.float_ids to whole"
)
TOO_LONG = "is a float of more than 15 digits, which may not be the number that it was: write ids as text"
ROUNDED = "is a number such as 1.2E+08, which may have lost digits: write ids as text"
LONG = f"has more than {LONGEST:,} characters: no id may have more"
CONTROL = "holds a control character, such as a line's end: write ids without"
NAN = "is nan, which table tools write where there is no value: leave the value empty"
EXACT = 15
"""So many digits a 64-bit float keeps, whatever they are."""
_WHOLE, _EXACT_WHOLE = r"-?\d+\.0+", rf"-?\d{{1,{EXACT}}}\.0+"
# As Python and C write it, and as Java and Spark do.
_EXPONENT = r"-?\d(\.\d+)?[eE]\+\d+|-?\d\.\d+[eE]-?\d+"
_NANS, _INFINITE = ("nan", "NaN"), ("inf", "-inf", "Infinity", "-Infinity")
# How blanks (`sql.BLANKS`) begin in UTF-8, and lists and objects. Other characters begin with some of these, too.
_BEGINS = make_byte_table(b"\t\n\v\f\r \xc2\xe1\xe2\xe3[{")
_CONTROL = r"[\x00-\x1f\x7f\x{80}-\x{9f}]"
"""`endcap.ids.CONTROLS` as RE2 has it."""
_NUMBER_BEGINS, _NUMBER_ENDS = make_byte_table(b"-0123456789"), make_byte_table(b"0123456789")


def convert_to_id(columns: Sequence[str], words: Sequence[str] = (), *, whole: bool = False) -> str:
    """Return SQL for the id that text columns form.

    Parameters
    ----------
    columns
        SQL of the columns. Their values are joined by `|`; a `|` or `\\` within a value gets a `\\` before it, so that
        different rows give different ids.
    words
        Words that mean "no value".
    whole
        Whether a value such as 123.0 is the id 123.

    Returns
    -------
    str
        SQL that is null if a column is empty, blank or one of the words.
    """
    if not columns:
        return "NULL::VARCHAR"
    values = [_convert_value(column, words, whole) for column in columns]
    if len(values) == 1:
        return values[0]
    # `||` gives null where any part is.
    return " || '|' || ".join(f"replace(replace({value}, '\\', '\\\\'), '|', '\\|')" for value in values)


def convert_to_text(column: str) -> str:
    """A text column, null where it is empty."""
    return f"nullif({column}, '')"


def match_word(columns: Sequence[str], words: Sequence[str]) -> str:
    """A condition: one of the columns holds a word that stands for no value."""
    literals, doubtful = ", ".join(map(quote_text, words)), [column for column in columns if not is_plain(column)]
    return " OR ".join(f"{column} IN ({literals})" for column in doubtful) if doubtful and words else "false"


def list_words(words: Collection[str]) -> pa.Array:
    """The words that no plain id is: these, and those that stand for a float that is no number."""
    return pa.array(sorted({*words, *_NANS, *_INFINITE}), pa.string())


def read_plain_ids(column: pa.ChunkedArray, words: pa.Array) -> pa.ChunkedArray | None:
    """The ids of a batch's column, null where a value is empty; None where a value is not an id as it stands.

    Of a value that is, `as_id` and all checks make nothing else. words: as of `not_plain`.
    """
    if column.type != pa.string():
        return None
    has_text = pc.greater(pc.binary_length(column), 0)
    if not column.null_count and pc.all(has_text).as_py():
        return column if _are_plain(column, words) else None
    return pc.if_else(has_text, column, None) if _are_plain(column.filter(has_text), words) else None


def _are_plain(column: pa.ChunkedArray, words: pa.Array) -> bool:
    """Whether values that are not empty are ids as they stand. False may be a mistake, true never is."""
    longest = pc.max(pc.binary_length(words)).as_py()
    short = pointed = False
    for offsets, data in iterate_chunks(column):
        # Control characters, of which 0xc2 begins those beyond ASCII, and others.
        if _BEGINS[data[offsets[:-1]]].any() or data.min() < 0x20 or 0x7F in data or 0xC2 in data:
            return False
        lengths = np.diff(offsets)
        if lengths.max() > LONGEST:
            return False
        short = short or lengths.min() <= longest
        pointed = pointed or 0x2E in data or 0x2B in data
    if short and pc.any(pc.is_in(column, words)).as_py():
        return False
    return not (pointed and _has_float(column))


def _has_float(column: pa.ChunkedArray) -> bool:
    numbers = [
        _NUMBER_BEGINS[data[offsets[:-1]]] & _NUMBER_ENDS[data[offsets[1:] - 1]]
        for offsets, data in iterate_chunks(column)
    ]
    likely = column.filter(pa.array(np.concatenate(numbers)))
    return pc.any(pc.match_substring_regex(likely, f"^({_WHOLE}|{_EXPONENT})$")).as_py() or False


def _convert_value(column: str, words: Sequence[str], whole: bool) -> str:
    if is_plain(column):
        return column
    word = f" OR {match_word([column], words)}" if words else ""
    value = _drop_decimals(column) if whole else column
    return f"CASE WHEN {is_blank(column)}{word} THEN NULL ELSE {value} END"


def list_id_checks(
    name: str, columns: Sequence[str], words: Sequence[str] = (), *, whole: bool = False
) -> list[tuple[str, str]]:
    """List SQL conditions, with reasons, for ids that a table tool has damaged.

    name: the result's name. columns, words, whole: as in `convert_to_id`. Each column is checked.
    """
    doubtful = [column for column in columns if not is_plain(column)]
    values = (
        [quote_name(name)] if len(columns) == 1 else [convert_to_id([column], words, whole=whole) for column in columns]
    )
    checks = [check for value in values if doubtful for check in _list_value_checks(name, value, whole)]
    if doubtful:
        checks.append((f"regexp_matches({quote_name(name)}, {quote_text(_CONTROL)})", f"{name} {CONTROL}"))
    # Several that are plain may be too long together.
    if doubtful or len(columns) > 1:
        # Bytes are counted quicker than characters, and are no fewer.
        too_long = f"strlen({quote_name(name)}) > {LONGEST} AND length({quote_name(name)}) > {LONGEST}"
        checks.append((too_long, f"{name} {LONG}"))
    return checks


def _list_value_checks(name: str, value: str, whole: bool) -> list[tuple[str, str]]:
    # Each pattern costs much: it is tried where a quick look says that it may fit.
    number = f"{value} < ':'"
    as_float = f"{number} AND suffix({value}, '0') AND {matches_whole(value, _WHOLE)}"
    exponent = f"{number} AND (contains({value}, '.') OR contains({value}, '+')) AND {matches_whole(value, _EXPONENT)}"
    return [
        (as_float, f"{name} {TOO_LONG if whole else AS_FLOAT}"),
        (f"{exponent} OR {match_word([value], _INFINITE)}", f"{name} {ROUNDED}"),
        (match_word([value], _NANS), f"{name} {NAN}"),
    ]


def list_nested_checks(key: str, names: Sequence[str], located: Mapping[str, str]) -> list[tuple[str, str]]:
    """Conditions, with their reasons: a column of an id (or of a type or time) holds a list or an object.

    key: what the columns are, as the shop's file says. Ids in braces or brackets that are no JSON stay.
    """
    checks = []
    for name in names:
        value = located[name]
        if is_plain(value) or find_milliseconds(value):
            continue
        # By comparisons, the first of which most ids answer: a third of the cost of asking what a text starts with.
        opened = f"{value} >= '[' AND ({value} < '\\' OR {value} >= '{{' AND {value} < '|')"
        way = f"name a path into it, such as {name}[].id or {name}.id"
        checks.append((f"{opened} AND json_valid({value})", f"{key} is a list or an object, no plain value: {way}"))
    return checks


def _drop_decimals(column: str) -> str:
    whole = f"suffix({column}, '0') AND {matches_whole(column, _EXACT_WHOLE)}"
    return f"CASE WHEN {whole} THEN rtrim(rtrim({column}, '0'), '.') ELSE {column} END"
