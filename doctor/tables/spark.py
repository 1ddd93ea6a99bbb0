"""PySpark: an engine for frames that outgrow one machine, asked in its own SQL where they lie."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from doctor.errors import DoctorError
from doctor.tables.dialect import SparkDialect
from doctor.tables.raw import Raw, distinct_names
from doctor.tables.tables import Row


class SparkEngine:
    """The session that the caller's frames belong to."""

    name = "Spark"

    def __init__(self, session: Any) -> None:
        self.dialect = SparkDialect()
        self.session = session

    def rows(self, sql: str) -> list[Row]:
        """The answer as tuples."""
        return [tuple(row) for row in self.session.sql(sql).collect()]

    def frame(self, sql: str) -> Any:
        """The answer as a pandas frame."""
        found = self.session.sql(sql)
        return found.toArrow().to_pandas() if hasattr(found, "toArrow") else found.toPandas()

    def view(self, name: str, sql: str) -> None:
        """A temporary view."""
        self.session.sql(sql).createOrReplaceTempView(name)

    def sampled(self, sql: str, rows: int, total: int) -> str:
        """Rows by the hash of their number."""
        return f"SELECT * FROM ({sql}) AS u WHERE pmod(xxhash64(split_no, row_no, 7), {total}) < {rows}"

    def keep(self, name: str, sql: str) -> None:
        """A cached view, which Spark takes to disk where memory ends."""
        self.session.sql(sql).persist().createOrReplaceTempView(name)


def spark_raw(frames: Sequence[Any]) -> tuple[SparkEngine, list[Raw]]:
    """The engine, and each frame as a view. Raises DoctorError when frames of other kinds are among them."""
    if not all(type(frame).__module__.startswith("pyspark.") for frame in frames):
        raise DoctorError("some splits are Spark frames and some are not", "give all splits as frames of one kind")
    engine = SparkEngine(frames[0].sparkSession)
    return engine, [_raw(engine, number, frame) for number, frame in enumerate(frames)]


def _raw(engine: SparkEngine, number: int, frame: Any) -> Raw:
    """Rows are numbered in the order of the partitions: the frame's own order where it was read or made in one."""
    names = distinct_names(list(frame.columns))
    renamed = frame.toDF(*(f"r{place}" for place in range(len(names))))
    renamed.createOrReplaceTempView(f"frame_{number}")
    numbered = engine.session.sql(f"SELECT *, monotonically_increasing_id() AS mono FROM frame_{number}")
    numbered.createOrReplaceTempView(f"numbered_{number}")
    sizes: dict[int, int] = dict(
        engine.rows(
            f"SELECT shiftright(mono, 33) AS part, count(*) FROM numbered_{number} GROUP BY shiftright(mono, 33)"
        )
    )
    first, cases = 0, ""
    for part in sorted(sizes):
        cases += f" WHEN {part} THEN {first}"
        first += sizes[part]
    offset = f"CASE shiftright(mono, 33){cases} ELSE 0 END" if cases else "0"
    picked = ", ".join(f"r{place}" for place in range(len(names)))
    engine.view(f"raw_{number}", f"SELECT {offset} + (mono & 8589934591) AS row_no, {picked} FROM numbered_{number}")
    types = tuple(field.dataType.simpleString().upper() for field in renamed.schema.fields)
    return Raw(f"raw_{number}", tuple(names), types, (first,))
