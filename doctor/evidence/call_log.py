"""The module calls of one training step, in order, each with the user's line from which it was made."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from doctor.evidence.base import Evidence, Source
from doctor.evidence.recording import Recording, source
from doctor.probes import probe


@dataclass(frozen=True)
class ModuleCall:
    """One call. `caller` is the path of the module in whose forward it was made, None outside every module."""

    path: str
    source: Source | None
    root: int = 0
    caller: str | None = None


@dataclass(frozen=True)
class CallLog(Evidence):
    """All calls of one step. `aliases` are the paths of a module that is registered more than once; `named_again` has the lines
    on which an attribute was given a module that another one holds, by its first path. `owners` tells by
    `(root, path)` whose class a module is of: `torch`, `user`, or a library's name.
    """

    calls: tuple[ModuleCall, ...] = ()
    aliases: tuple[tuple[int, tuple[str, ...]], ...] = ()
    owners: Mapping[tuple[int, str], str] = field(default_factory=dict)
    named_again: Mapping[tuple[int, str], Source] = field(default_factory=dict)

    def of(self, path: str, root: int = 0) -> tuple[ModuleCall, ...]:
        """The calls of one module."""
        return tuple(call for call in self.calls if call.path == path and call.root == root)

    def in_library(self, path: str, root: int | None = 0) -> bool:
        """Whether the code of a module, or what holds it, is a library's other than PyTorch: none of the user's."""
        parts = path.split(".") if path else []
        for length in range(len(parts), -1, -1):
            owner = self.owners.get((root or 0, ".".join(parts[:length])), "user")
            if owner != "torch":
                return owner != "user"
        return False


@probe
def call_log(recording: Recording) -> CallLog:
    """Read the calls."""
    event = recording.some("module-calls", "no training step was taped")[0]
    calls = tuple(
        ModuleCall(path=path, source=source(line), root=root, caller=caller)
        for root, path, caller, line in event["calls"]
    )
    owners = {(int(key.partition(" ")[0]), key.partition(" ")[2]): owner for key, owner in event["classes"].items()}
    aliases = tuple((alias["root"], tuple(alias["paths"])) for alias in recording.of("module-alias"))
    lines = {(a["root"], a["paths"][0]): source(a.get("line")) for a in recording.of("module-alias")}
    return CallLog(calls, aliases, owners, {key: line for key, line in lines.items() if line is not None})
