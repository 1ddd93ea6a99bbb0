"""The recording: what an observed run wrote, event by event; every other record about a program is read from it."""

from __future__ import annotations

import gzip
import json
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

from doctor.errors import DoctorError, Unavailable
from doctor.evidence.base import Given, Source

FORMAT = 1
Event = dict[str, Any]


@dataclass(frozen=True)
class Recording(Given):
    """All events of one observed run, in order."""

    events: tuple[Event, ...]

    @staticmethod
    def read(path: Path) -> Recording:
        """From the file that the observed process wrote; a last line cut off by a kill is left out."""
        events = []
        with path.open("rb") as lines:
            for line in lines:
                try:
                    events.append(json.loads(line))
                except ValueError:
                    break
        return Recording(tuple(events))

    @staticmethod
    def load(path: Path) -> Recording:
        """From a file written by `save`; raises DoctorError when it is none."""
        try:
            with gzip.open(path, "rt", encoding="utf-8") as lines:
                head = json.loads(next(lines))
                if head.get("doctor-recording") != FORMAT:
                    raise DoctorError(f"{path} was recorded in another format", "record it again with this version")
                return Recording(tuple(json.loads(line) for line in lines))
        except (OSError, ValueError, StopIteration, EOFError) as failure:
            raise DoctorError(f"{path} is no recording of doctor ({failure})") from None

    def save(self, path: Path) -> None:
        """To a compressed file, to be diagnosed later or elsewhere."""
        with gzip.open(path, "wt", encoding="utf-8") as lines:
            lines.write(json.dumps({"doctor-recording": FORMAT}) + "\n")
            for event in self.events:
                lines.write(json.dumps(event) + "\n")

    @cached_property
    def _by_kind(self) -> dict[str, list[Event]]:
        kinds: dict[str, list[Event]] = {}
        for event in self.events:
            kinds.setdefault(event["event"], []).append(event)
        return kinds

    def of(self, kind: str) -> list[Event]:
        """All events of one kind."""
        return self._by_kind.get(kind, [])

    def some(self, kind: str, reason: str) -> list[Event]:
        """All events of one kind; raises Unavailable with the reason when there are none."""
        found = self.of(kind)
        if not found:
            raise Unavailable(reason)
        return found

    @property
    def start(self) -> Event:
        """The first event."""
        return self.of("start")[0] if self.of("start") else {}

    @property
    def end(self) -> Event:
        """The last event; empty when the process was killed."""
        return self.of("end")[-1] if self.of("end") else {}

    def with_end(self, **fields: Any) -> Recording:
        """The recording with an end, where the process could not write one itself."""
        return Recording((*self.events, {"event": "end", **fields}))


def source(line: Any) -> Source | None:
    """A line of an event as a Source."""
    return Source(str(line[0]), int(line[1]), str(line[2])) if line else None


def sources(lines: Any) -> Iterator[Source]:
    """The known ones."""
    for line in lines or ():
        found = source(line)
        if found is not None:
            yield found
