"""What the user sees while a diagnosis runs."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from rich.progress import Progress as Bar
    from rich.progress import TaskID


class Progress(Protocol):
    """Takes word of how far the work is."""

    def start(self, phase: str, total: int | None) -> None:
        """A phase begins (it ends the one before)."""

    def advance(self, done: int) -> None:
        """So many units of the phase are done."""

    def finish(self) -> None:
        """No more phases for now."""


class SilentProgress:
    """Says nothing."""

    def start(self, phase: str, total: int | None) -> None:
        """Nothing."""

    def advance(self, done: int) -> None:
        """Nothing."""

    def finish(self) -> None:
        """Nothing."""


class BarProgress:
    """A bar on stderr that leaves no trace."""

    def __init__(self) -> None:
        self._bar: Bar | None = None
        self._task: TaskID | None = None

    def start(self, phase: str, total: int | None) -> None:
        """Show a new bar."""
        from rich.console import Console
        from rich.progress import (
            BarColumn,
            MofNCompleteColumn,
            Progress,
            TextColumn,
            TimeElapsedColumn,
            TimeRemainingColumn,
        )

        self.finish()
        counted = (MofNCompleteColumn(), TimeRemainingColumn(elapsed_when_finished=True))
        known = counted if total else (TextColumn("{task.completed:,.0f}"), TimeElapsedColumn())
        columns = (TextColumn("{task.description}"), BarColumn(), *known)
        console = Console(stderr=True, force_interactive=sys.stderr.isatty())
        self._bar = Progress(*columns, console=console, transient=True)
        self._bar.start()
        self._task = self._bar.add_task(phase, total=total)

    def advance(self, done: int) -> None:
        """Move it."""
        if self._bar is not None and self._task is not None:
            self._bar.update(self._task, completed=done)

    def finish(self) -> None:
        """Take it away."""
        if self._bar is not None:
            self._bar.stop()
            self._bar = None
