"""Live frames of a caller as Arrow tables: what is columnar already is not copied."""

from __future__ import annotations

from collections import Counter
from typing import Any

from doctor.errors import DoctorError

Mixed = tuple[tuple[str, tuple[tuple[str, int], ...]], ...]


def as_arrow(content: Any) -> tuple[Any, Mixed]:
    """An Arrow table of a pandas, Polars or Arrow frame, a `datasets.Dataset`, a DuckDB relation, or columns by name; and
    the columns of objects of several types, with the count of each.

    Raises DoctorError for anything else.
    """
    import pyarrow

    module = type(content).__module__.partition(".")[0]
    if isinstance(content, pyarrow.Table):
        return content, ()
    if module == "pandas":
        return _of_pandas(content)
    if module == "polars":
        collected = content.collect() if hasattr(content, "collect") else content
        return collected.to_arrow(), ()
    if module == "datasets" and hasattr(content, "data"):
        return content.with_format("arrow")[:], ()
    if hasattr(content, "to_arrow_table"):
        return content.to_arrow_table(), ()
    if hasattr(content, "__arrow_c_stream__"):
        return pyarrow.table(content), ()
    if isinstance(content, dict):
        return pyarrow.table(content), ()
    raise DoctorError(
        f"a {type(content).__name__} is no table", "give a pandas, Polars, Arrow or PySpark frame, or paths"
    )


def _of_pandas(frame: Any) -> tuple[Any, Mixed]:
    """Columns of objects that are of several types become text, as a file would hold them."""
    import pyarrow

    arrays: list[Any] = []
    names: list[str] = []
    mixed: list[tuple[str, tuple[tuple[str, int], ...]]] = []
    for place, name in enumerate(frame.columns):
        column = frame.iloc[:, place]
        try:
            arrays.append(pyarrow.array(column, from_pandas=True))
        except (pyarrow.ArrowInvalid, pyarrow.ArrowTypeError, pyarrow.ArrowNotImplementedError):
            arrays.append(
                pyarrow.array([None if _missing(value) else str(value) for value in column], pyarrow.string())
            )
            types = Counter(type(value).__name__ for value in column if not _missing(value))
            mixed.append((str(name), tuple(types.most_common())))
        names.append(str(name))
    table = pyarrow.table(arrays, names=[f"p{place}" for place in range(len(names))]).rename_columns(names)
    return table, tuple(mixed)


def _missing(value: Any) -> bool:
    return value is None or (isinstance(value, float) and value != value)
