"""What the engines' SQL has different names for. Everything else is written once, in the SQL that they share."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

from doctor.tables.columns import BOOLEAN, FLOAT, INTEGER, NESTED, TIME, Column


class Dialect(Protocol):
    """The few functions on which engines differ."""

    name: str

    def row_hash(self, columns: Sequence[Column]) -> str:
        """64-bit hash of a row's values: equal for equal values, null unlike any value, NaN a null, -0.0 as 0.0."""

    def quantiles(self, value: str, shares: Sequence[float]) -> str:
        """Exact quantiles of a number as one list, nulls left out."""

    def approximate_distinct(self, value: str) -> str:
        """Number of distinct values to within a few per cent."""

    def number(self, text: str) -> str:
        """A text as a double, null where it is none."""

    def whole(self, text: str) -> str:
        """A text as a 64-bit integer, null where it is none."""

    def time(self, text: str) -> str:
        """A text as a timestamp, null where it is none."""

    def nothing(self, kind: str) -> str:
        """A null of the type that columns of this kind have."""

    def matches(self, text: str, pattern: str) -> str:
        """Whether a text holds a match of a regular expression (RE2's common ground with Java's)."""

    def beyond_ascii(self, text: str) -> str:
        """Whether a text holds signs of more than one byte in UTF-8."""

    def text(self, value: str) -> str:
        """Any value as text."""

    def seconds(self, value: str) -> str:
        """A time as seconds."""

    def infinite(self, value: str) -> str:
        """Whether a float is infinite (and never null or NaN for it)."""


_NULLS = {INTEGER: "BIGINT", FLOAT: "DOUBLE", BOOLEAN: "BOOLEAN", TIME: "TIMESTAMP"}


def literal(text: str) -> str:
    """A text as an SQL literal."""
    return "'" + text.replace("'", "''") + "'"


def settled(column: Column, key: str | None = None) -> str:
    """A column's value in the form in which equal values are equal: numbers with NaN as null and without -0.0."""
    key = key or column.key
    return f"(CASE WHEN isnan({key}) THEN NULL ELSE {key} + 0.0 END)" if column.kind == FLOAT else key


class DuckDialect:
    """DuckDB."""

    name = "duckdb"

    def row_hash(self, columns: Sequence[Column]) -> str:
        """`hash` is 64 bits wide and tells null in each place apart."""
        return f"hash({', '.join(settled(column) for column in columns)})" if columns else "0::UBIGINT"

    def quantiles(self, value: str, shares: Sequence[float]) -> str:
        """One sort serves the whole list."""
        return f"quantile_cont({value}, [{', '.join(map(str, shares))}])"

    def approximate_distinct(self, value: str) -> str:
        """HyperLogLog."""
        return f"approx_count_distinct({value})"

    def number(self, text: str) -> str:
        """A leading or trailing blank is no part of a number."""
        return f"TRY_CAST(trim({text}) AS DOUBLE)"

    def whole(self, text: str) -> str:
        """DuckDB rounds 2.5 to a whole number when it casts: what has a point is none."""
        return f"CASE WHEN contains({text}, '.') OR contains(lower({text}), 'e') THEN NULL ELSE TRY_CAST(trim({text}) AS BIGINT) END"

    def time(self, text: str) -> str:
        """ISO dates and times."""
        return f"TRY_CAST({text} AS TIMESTAMP)"

    def nothing(self, kind: str) -> str:
        """A typed null."""
        return f"CAST(NULL AS {_NULLS.get(kind, 'VARCHAR')})"

    def matches(self, text: str, pattern: str) -> str:
        """RE2."""
        return f"regexp_matches({text}, {literal(pattern)})"

    def beyond_ascii(self, text: str) -> str:
        """Bytes against signs."""
        return f"strlen({text}) <> length({text})"

    def text(self, value: str) -> str:
        """Cast."""
        return f"CAST({value} AS VARCHAR)"

    def seconds(self, value: str) -> str:
        """A time of day has no date: through text where the cast to a timestamp is none."""
        return f"epoch(TRY_CAST({value} AS TIMESTAMP))"

    def infinite(self, value: str) -> str:
        """As it is called."""
        return f"isinf({value})"


class SparkDialect:
    """Spark SQL. Its `hash` is 32 bits wide and would collide in any table worth Spark: `xxhash64` it is."""

    name = "spark"

    def row_hash(self, columns: Sequence[Column]) -> str:
        """`xxhash64` passes over nulls, so that (1, null) and (null, 1) were alike: each null's place goes in, too."""
        parts = []
        for column in columns:
            value = f"to_json(named_struct('v', {column.key}))" if column.kind == NESTED else settled(column)
            parts += [value, f"isnull({value})"]
        return f"xxhash64({', '.join(parts)})" if parts else "0L"

    def quantiles(self, value: str, shares: Sequence[float]) -> str:
        """`percentile` is exact and takes a list."""
        return f"percentile({value}, array({', '.join(map(str, shares))}))"

    def approximate_distinct(self, value: str) -> str:
        """HyperLogLog++ with two per cent."""
        return f"approx_count_distinct({value}, 0.02)"

    def number(self, text: str) -> str:
        """Null instead of an error also in ANSI mode."""
        return f"try_cast(trim({text}) AS DOUBLE)"

    def whole(self, text: str) -> str:
        """What has a point is no whole number."""
        return f"try_cast(trim({text}) AS BIGINT)"

    def time(self, text: str) -> str:
        """ISO dates and times; a bare number would be a year to Spark."""
        return f"CASE WHEN {text} RLIKE r'^[0-9]{{4}}-[0-9]' THEN try_cast({text} AS TIMESTAMP) END"

    def nothing(self, kind: str) -> str:
        """A typed null."""
        return f"CAST(NULL AS {_NULLS.get(kind, 'STRING')})"

    def matches(self, text: str, pattern: str) -> str:
        """A backslash in a literal is an escape to Spark."""
        return f"{text} RLIKE r{literal(pattern)}"

    def beyond_ascii(self, text: str) -> str:
        """Bytes against signs."""
        return f"octet_length({text}) <> char_length({text})"

    def text(self, value: str) -> str:
        """Cast."""
        return f"CAST({value} AS STRING)"

    def seconds(self, value: str) -> str:
        """Since 1970."""
        return f"CAST(unix_timestamp(CAST({value} AS TIMESTAMP)) AS DOUBLE)"

    def infinite(self, value: str) -> str:
        """Spark knows it by its value."""
        return f"(abs({value}) = double('Infinity'))"
