"""DuckDB: the engine for files, and for frames that live in this process, which it scans in place."""

from __future__ import annotations

import tempfile
import weakref
from collections.abc import Callable
from typing import Any, TypeVar

from doctor.errors import DoctorError, OutOfMemory
from doctor.tables.dialect import DuckDialect
from doctor.tables.tables import Row

T = TypeVar("T")


class DuckEngine:
    """One private database in a scratch folder, which takes what does not fit the memory limit."""

    name = "DuckDB"

    def __init__(self, memory_limit: str | None = None) -> None:
        try:
            import duckdb
        except ImportError:
            raise DoctorError(
                "data sets are read by DuckDB, which is missing", "pip install 'pytorch-doctor[data]'"
            ) from None
        self.dialect = DuckDialect()
        self.encodings: list[tuple[str, int, tuple[int, ...]]] = []  # file, lines that are no UTF-8, their numbers
        scratch = tempfile.TemporaryDirectory(prefix="doctor-data-")
        self.scratch = scratch.name
        self.connection = duckdb.connect(f"{self.scratch}/data.duckdb")
        weakref.finalize(self, _close, self.connection, scratch)
        self.connection.execute(f"SET temp_directory = '{self.scratch}'")
        self.connection.execute("SET enable_progress_bar = false")
        if memory_limit:
            try:
                self.connection.execute(f"SET memory_limit = '{memory_limit}'")
            except duckdb.Error:
                raise DoctorError(f'"{memory_limit}" is no memory limit', "for example --memory-limit 2GB") from None

    def rows(self, sql: str) -> list[Row]:
        """The answer as tuples."""
        found: list[Row] = self._within_memory(lambda: self.connection.execute(sql).fetchall())
        return found

    def frame(self, sql: str) -> Any:
        """The answer as a pandas frame."""
        return self._within_memory(lambda: self.connection.execute(sql).df())

    def view(self, name: str, sql: str) -> None:
        """A temporary view, since it may stand on a frame of this process."""
        self.connection.execute(f"CREATE OR REPLACE TEMP VIEW {name} AS {sql}")

    def sampled(self, sql: str, rows: int, total: int) -> str:
        """Rows by the hash of their number: no order of the file is favoured."""
        return f"SELECT * FROM ({sql}) AS u WHERE hash(split_no, row_no, 7) % {total} < {rows}"

    def keep(self, name: str, sql: str) -> None:
        """A table in the scratch database."""
        self._within_memory(lambda: self.connection.execute(f"CREATE OR REPLACE TABLE {name} AS {sql}"))

    def unordered(self) -> None:
        """Rows have their numbers: from here on no order of theirs need be kept, which takes memory."""
        self.connection.execute("SET preserve_insertion_order = false")

    def _within_memory(self, answer: Callable[[], T]) -> T:
        """The answer; on one thread where the memory is too little for several. Raises OutOfMemory where it is for one."""
        import duckdb

        try:
            return answer()
        except duckdb.OutOfMemoryException:
            pass
        self.connection.execute("SET threads = 1")
        try:
            return answer()
        except duckdb.OutOfMemoryException as failure:
            limit = self.rows("SELECT current_setting('memory_limit')")[0][0]
            raise OutOfMemory(
                f"the memory limit of {limit} is too little ({str(failure).partition(chr(10))[0]})",
                "give a greater --memory-limit",
            ) from None
        finally:
            self.connection.execute("RESET threads")


def _close(connection: Any, scratch: tempfile.TemporaryDirectory[str]) -> None:
    connection.close()
    scratch.cleanup()
