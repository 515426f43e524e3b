"""Rows of the Storage Read API as the types that the table reader knows."""

from __future__ import annotations

import json

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from endcap.sources.bigquery.columns import NUMERIC


def normalize(column: pa.Array, *, is_json: bool = False, keeps_numeric: bool = False) -> pa.Array:
    """Return a column whose decimals are text, as GoogleSQL writes them, such as 5 or 1.25.

    Parameters
    ----------
    column
        The values.
    is_json
        Whether the texts are JSON values of a column that is read as a whole. Plain ones become their text.
    keeps_numeric
        Whether values of NUMERIC stay decimals, of the type `NUMERIC`.
    """
    return _unwrap_json(column) if is_json else _convert(column, keeps_numeric)


def _convert(column: pa.Array, keeps_numeric: bool) -> pa.Array:
    kind = column.type
    if not _has_decimals(kind):
        return column
    if pa.types.is_decimal(kind):
        if keeps_numeric and pa.types.is_decimal128(kind) and kind.scale <= NUMERIC.scale:
            return column.cast(NUMERIC)
        return _trim(column.cast(pa.string()))
    if pa.types.is_struct(kind):
        fields = [_convert(column.field(place), keeps_numeric) for place in range(kind.num_fields)]
        names = [kind.field(place).name for place in range(kind.num_fields)]
        return pa.StructArray.from_arrays(fields, names=names, mask=pc.is_null(column))
    values = _convert(column.flatten(), keeps_numeric)
    lengths = pc.fill_null(pc.list_value_length(column), 0).to_numpy(zero_copy_only=False)
    offsets = pa.array(np.concatenate([[0], np.cumsum(lengths)]), pa.int32())
    return pa.ListArray.from_arrays(offsets, values, mask=pc.is_null(column))


def _has_decimals(kind: pa.DataType) -> bool:
    if pa.types.is_struct(kind) or pa.types.is_list(kind):
        return any(_has_decimals(kind.field(place).type) for place in range(kind.num_fields))
    return bool(pa.types.is_decimal(kind))


def _trim(texts: pa.Array) -> pa.Array:
    """Take out the zeros that only fill up a decimal's scale."""
    is_fraction = pc.match_substring(texts, ".")
    return pc.if_else(is_fraction, pc.utf8_rtrim(pc.utf8_rtrim(texts, "0"), "."), texts)


def _unwrap_json(column: pa.Array) -> pa.Array:
    """Return the text of JSON strings, and no value for JSON's null. Numbers, lists and objects stay as they are."""
    column = pc.if_else(pc.equal(column, "null"), None, column)
    if not pc.any(pc.starts_with(column, '"')).as_py():
        return column
    return pa.array([json.loads(text) if text is not None and text[0] == '"' else text for text in column.to_pylist()])
