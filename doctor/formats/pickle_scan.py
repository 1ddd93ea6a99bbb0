"""Every pickle stream in a piece of bytes: one after another, behind the last STOP, and within bytes of others."""

from __future__ import annotations

from doctor.evidence.artifact_contents import NameUse, PickleStream, Problem
from doctor.formats.found import Found
from doctor.formats.pickle_machine import CUT, Walk
from doctor.formats.pickles import begins, begins_as_pickle, follow, plausible

PICKLE_NAMES = (".pkl", ".pickle", ".debug_pkl", ".joblib", ".dill", ".p")
_MOST_STREAMS, _MOST_NAMES, _DEPTH = 1000, 2000, 3
HEAD = 64 << 10
COST = 1000  # bytes of the budget for one opcode: about a microsecond, in which a gigabyte a second is read


def scan(data: bytes, file: str, place: str, found: Found, *, scripted: bool = False, depth: int = 0) -> list[Walk]:
    """Follow all streams in data that are taken for pickles; their walks, in order. What is left over is a fault."""
    walks: list[Walk] = []
    at = 0
    while at < len(data) and len(walks) < _MOST_STREAMS and found.spend(0, file):
        walk = follow(data, at)
        if not found.spend(walk.end - at + COST * walk.opcodes, file):
            walk.fault = walk.fault or "not all of it was followed"
        walks.append(walk)
        rest = data[walk.end : walk.end + HEAD]
        if walk.fault is None and rest and not rest.strip(b"\0\n"):
            found.streams.append(_record(walk, file, _at(place, at), scripted))
            break
        if walk.fault is None and rest and not recognised(rest, found, file):
            walk.fault = f"{len(data) - walk.end} bytes after its STOP are no pickle"
        found.streams.append(_record(walk, file, _at(place, at), scripted))
        if walk.fault is not None:
            break
        at = walk.end
    if len(walks) == _MOST_STREAMS and at < len(data):
        message = f"more than {_MOST_STREAMS} pickles follow each other: not all were followed"
        found.problems.append(Problem("corrupt-file", message, file, place or None))
    if depth < _DEPTH and any(suspicious(walk) for walk in walks):
        for walk in walks:
            for content in walk.embedded[:200]:
                if recognised(content[:HEAD], found, file):
                    scan(content, file, f"{place or file}, bytes within", found, depth=depth + 1)
    return walks


def glance(head: bytes, found: Found, file: str) -> bool:
    """Whether bytes of no known purpose begin with a pickle that asks for names and calls: tensors never do."""
    if not found.spend(0, file):
        return False
    walk = follow(head, limit=20_000)
    if not found.spend(len(head) + COST * walk.opcodes, file):
        return False
    return walk.calls > 0 and any(plausible(use.path) for use in walk.names)


def recognised(head: bytes, found: Found, file: str) -> bool:
    """Whether these bytes begin a pickle of any protocol; what that costs is taken from the budget, without which
    nothing is recognised, and that is a problem of the file.
    """
    if head[:1] == b"\x80":
        return looks_pickled(head)
    if not found.spend(0, file):
        return False
    walk = follow(head, limit=20_000)
    return found.spend(len(head) + COST * walk.opcodes, file) and begins(walk, head)


def looks_pickled(head: bytes) -> bool:
    """Whether these bytes begin a pickle of any protocol."""
    return (head[:1] == b"\x80" and len(head) > 1 and head[1] <= 5) or begins_as_pickle(head)


def ends_early(walk: Walk) -> bool:
    """Whether the stream could be followed up to where its bytes end."""
    return walk.fault is not None and CUT in walk.fault


def suspicious(walk: Walk) -> bool:
    """Whether the stream asks for a name outside PyTorch's allow-list."""
    from doctor.formats.torch_globals import ALLOWED

    return walk.fault is not None or any(use.path not in ALLOWED for use in walk.names)


def _at(place: str, offset: int) -> str:
    return f"{place}, byte {offset}" if place and offset else (place or (f"byte {offset}" if offset else ""))


def _record(walk: Walk, file: str, place: str, scripted: bool) -> PickleStream:
    seen: dict[str, NameUse] = {}
    for use in walk.names:
        seen.setdefault(use.path, NameUse(use.path, use.opcode, use.position))
    names = tuple(seen.values())
    if len(names) > _MOST_NAMES:
        from doctor.formats.torch_globals import ALLOWED

        names = tuple(sorted(names, key=lambda use: use.path in ALLOWED)[:_MOST_NAMES])
    refused = tuple(f"{name} (byte {position})" for name, position in walk.refused.items())
    return PickleStream(
        file, place, walk.opcodes, names, refused, tuple(walk.tricks), walk.fault, scripted, ends_early(walk)
    )
