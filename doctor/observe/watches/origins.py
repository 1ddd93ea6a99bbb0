"""The lines of the user's files that make, split, permute and normalise data."""

from __future__ import annotations

from doctor.observe import origins
from doctor.observe.watch import Watch


class OriginWatch(Watch):
    """Reads the user's files once the program has ended."""

    def finish(self) -> None:
        """One event with every line."""
        found = list(origins.data_lines(self.recorder.frames, self.recorder.plan.target))
        self.recorder.stream.emit("data-lines", lines=found[:400])
