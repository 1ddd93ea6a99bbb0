"""What `torch.save` and `torch.jit.save` write: zip archives, the concatenated pickles before them, old tar archives."""

from __future__ import annotations

import tarfile
from pathlib import Path
from typing import Any

from doctor.evidence.artifact_contents import CodeReference, Problem, TensorEntry
from doctor.formats.archives import MOST_UNPACKED, Archive, escapes, look_through, verify
from doctor.formats.files import Window
from doctor.formats.found import Found
from doctor.formats.pickle_scan import COST, HEAD, ends_early, looks_pickled, scan
from doctor.formats.torch_values import ITEM_SIZES, Named, StoredTensor, values

_TOO_MANY = "its pickle refers to more values than are looked at here: not all tensors were found"
_LEGACY_HEADS = 4  # magic number, protocol, system, object; the list of storage keys follows


def read(path: Path, name: str, found: Found) -> None:
    """Any zip archive: of torch.save, TorchScript, torch.export, or of no known purpose."""
    with Window(path) as window:
        archive = read_zip(window, name, found)
        if archive is not None:
            verify(archive, found)


def read_zip(
    window: Window, file: str, found: Found, *, place: str = "", depth: int = 0, role: str = "weight"
) -> Archive | None:
    """Scan an archive, and name the tensors that its pickles and tables describe."""
    names = _names(window)
    root = _root(names)
    script = f"{root}constants.pkl" in names or any(name.startswith(f"{root}code/") for name in names)
    if f"{root}archive_format" in names and not script:
        from doctor.formats.pt2 import read_archive

        return read_archive(window, file, found, root, place, depth)

    def raw(name: str) -> bool:
        return name.startswith((f"{root}data/", f"{root}constants/"))

    def scripted(name: str) -> bool:
        inside = name.startswith(f"{root}code/") or "/" not in name.removeprefix(root)
        return script and inside and name.endswith((".pkl", ".debug_pkl"))

    archive = look_through(window, file, found, place=place, raw=raw, scripted=scripted, depth=depth)
    if archive is None:
        return None
    if len({entry.partition("/")[0] for entry in names}) > 1 and f"{root}data.pkl" in names and not place:
        found.problems.append(
            Problem("corrupt-file", "it holds more than one top-level folder, PyTorch writes one", file)
        )
    order = archive.read(f"{root}byteorder", 16)
    if script and not place:
        _mobile(archive, root, file, found)
    for pickle, folder in (("data.pkl", "data/"), ("constants.pkl", "constants/")):
        walks = archive.pickles.get(f"{root}{pickle}", [])
        if walks and walks[0].fault is None:
            part = "other" if pickle == "constants.pkl" else role
            _tensors(archive, walks[0].value, f"{root}{folder}", found, part, script, order == b"big")
    return archive


def _names(window: Window) -> set[str]:
    from doctor.formats.zips import ZipFileError, directory

    try:
        return {entry.name for entry in directory(window).entries}
    except (ZipFileError, ValueError, OverflowError):
        return set()


def _root(names: set[str]) -> str:
    """The folder that holds the records: that of `data.pkl` or of `archive_format`."""
    for record in ("data.pkl", "archive_format", "constants.pkl", "version"):
        for name in sorted(names, key=len):
            if name == record or (name.endswith("/" + record) and name.count("/") == 1):
                return name[: -len(record)]
    return ""


def _mobile(archive: Archive, root: str, file: str, found: Found) -> None:
    scripts = sum(name.startswith(f"{root}code/") for name in archive.members)
    found.facts["script"] = {"files": scripts}
    if not scripts:
        found.problems.append(Problem("corrupt-file", "a TorchScript archive without code", file))


def _tensors(
    archive: Archive, value: Any, folder: str, found: Found, role: str, script: bool, big_endian: bool
) -> None:
    named = values(value, script)
    if not named.complete:
        found.problems.append(Problem("corrupt-file", _TOO_MANY, archive.file))
    if role == "weight":
        found.facts["container"] = named.container
        if named.modules:
            found.facts["modules"] = named.modules
    missing: set[str] = set()
    prefix = f"{archive.place}: " if archive.place else "constants." if folder.endswith("constants/") else ""
    for one in named.tensors:
        tensor = one.tensor
        entry = archive.members.get(f"{folder}{tensor.key}")
        held = entry.size if entry else 0
        at = entry.data_offset if entry and entry.stored else -1
        fault = tensor.fault
        if entry is None and tensor.device != "meta" and tensor.key not in missing:
            missing.add(tensor.key)
            found.problems.append(
                Problem("corrupt-file", f"its storage {folder}{tensor.key} is missing", archive.file, one.name)
            )
        if fault:
            found.problems.append(Problem("corrupt-file", fault, archive.file, one.name))
        unread = "its storage is compressed" if at < 0 else "big-endian numbers" if big_endian else fault
        found.tensors.append(
            entry_of(one, archive.file, at, held, found, role, unread, prefix, f"{folder}{tensor.key}")
        )


def entry_of(
    one: Named, file: str, at: int, held: int, found: Found, role: str, unread: str | None, prefix: str, storage: str
) -> TensorEntry:
    """The tensor's place in the file; a problem when it reaches beyond its storage of `held` bytes at `at`."""
    tensor: StoredTensor = one.tensor
    item = ITEM_SIZES.get(tensor.dtype, 0)
    if tensor.sparse:
        unread = unread or "a sparse tensor"
    end = (tensor.offset + tensor.reach) * item
    if item and end > held and unread is None and tensor.fault is None:
        unread = "it reaches beyond its storage"
        found.problems.append(
            Problem("corrupt-file", f"it needs {end} bytes of a storage of {held} bytes", file, one.name)
        )
    return TensorEntry(
        name=prefix + one.name,
        dtype=tensor.dtype,
        shape=tensor.shape,
        file=file,
        offset=at + tensor.offset * item if at >= 0 else 0,
        nbytes=tensor.reach * item,
        storage=f"{file}:{storage}+{tensor.offset}",
        strides=None if tensor.contiguous or tensor.sparse else tensor.strides,
        device=tensor.device,
        role=role if one.weight else "other",
        unread=unread or (None if item else f"numbers of type {tensor.dtype}"),
    )


def read_pickle(path: Path, name: str, found: Found) -> None:
    """A file that is one or more pickles and nothing else."""
    with Window(path) as window:
        if window.size > 4 * MOST_UNPACKED:
            content = window.read(0, MOST_UNPACKED)
            found.problems.append(Problem("corrupt-file", "a pickle too large to be read here", name))
        else:
            content = window.read(0, window.size)
    walks = scan(content, name, "", found)
    if walks and ends_early(walks[-1]):
        found.problems.append(Problem("truncated-file", f"the pickle is cut off: {walks[-1].fault}", name))
    if walks and walks[0].fault is None:
        named = values(walks[0].value)
        for one in named.tensors:
            found.tensors.append(entry_of(one, name, -1, 0, found, "weight", "no storage", "", one.tensor.key))


def read_legacy(path: Path, name: str, found: Found) -> None:
    """Five pickles, then the storages: each its number of elements in eight bytes, and its data."""
    from doctor.formats.pickles import follow

    with Window(path) as window:
        size = 1 << 20
        while True:
            content = window.read(0, min(size, window.size))
            at, walks = 0, []
            for _ in range(_LEGACY_HEADS + 1):
                walks.append(follow(content, at))
                at = walks[-1].end
                if walks[-1].fault:
                    break
            if not walks[-1].fault or size >= min(window.size, 4 * MOST_UNPACKED):
                break
            size *= 8
        scan(content[:at], name, "", found)
        if walks[-1].fault:
            label = "truncated-file" if ends_early(walks[-1]) else "corrupt-file"
            found.problems.append(Problem(label, f"pickle {len(walks)} of 5: {walks[-1].fault}", name))
            return
        named, keys = values(walks[3].value), walks[4].value
        if not named.complete:
            found.problems.append(Problem("corrupt-file", _TOO_MANY, name))
        items = {one.tensor.key: ITEM_SIZES.get(one.tensor.dtype, 0) for one in named.tensors}
        places: dict[str, tuple[int, int]] = {}
        for key in keys if isinstance(keys, list) else ():
            count = int.from_bytes(window.read(at, 8), "little", signed=True)
            item = items.get(str(key), 0)
            if item == 0 or count < 0 or at + 8 + count * item > window.size:
                found.problems.append(
                    Problem("truncated-file", f"the data of storage {str(key)[:40]} end beyond the file", name)
                )
                break
            places[str(key)] = (at + 8, count * item)
            at += 8 + count * item
        else:
            _trailing(window, at, name, found)
        found.facts["container"] = named.container
        if named.modules:
            found.facts["modules"] = named.modules
        for one in named.tensors:
            start, held = places.get(one.tensor.key, (-1, 0))
            unread = None if start >= 0 else "its storage is missing"
            found.tensors.append(entry_of(one, name, start, held, found, "weight", unread, "", one.tensor.key))


def _trailing(window: Window, at: int, name: str, found: Found) -> None:
    if at >= window.size:
        return
    rest = window.read(at, HEAD)
    found.problems.append(Problem("corrupt-file", f"{window.size - at} bytes follow after the last storage", name))
    if looks_pickled(rest):
        scan(window.read(at, MOST_UNPACKED), name, f"byte {at}", found)


def read_tar(path: Path, name: str, found: Found) -> None:
    """Tar archives: torch's format before 0.1.10, which only full unpickling loads, and others."""
    try:
        with tarfile.open(path, mode="r:") as archive:
            for index, entry in enumerate(archive):
                if index > 100_000:
                    found.problems.append(Problem("corrupt-file", "more than 100000 members", name))
                    break
                target = entry.linkname if entry.issym() or entry.islnk() else ""
                if escapes(entry.name) or escapes(target):
                    words = f'"{entry.name}"' + (f' links to "{target}", and' if target else "")
                    found.problems.append(
                        Problem("path-traversal", f"{words} would be unpacked outside the folder", name, entry.name)
                    )
                if not entry.isfile():
                    continue
                source = archive.extractfile(entry)
                head = source.read(HEAD) if source else b""
                if source and (looks_pickled(head) or entry.name in ("pickle", "storages", "tensors", "sys_info")):
                    _of_tar(head + source.read(MOST_UNPACKED), entry.name, name, found)
    except (tarfile.TarError, OSError, ValueError, EOFError) as failure:
        found.problems.append(Problem("corrupt-file", f"the tar archive cannot be read ({failure})", name))
    found.code.append(
        CodeReference("pickle-payload", "a tar archive of an old PyTorch, which only full unpickling loads", name)
    )


def _of_tar(content: bytes, member: str, name: str, found: Found) -> None:
    """Storages and tensors interleave pickles with numbers: every pickle's beginning is looked for."""
    if member not in ("storages", "tensors"):
        scan(content, name, member, found)
        return
    from doctor.formats.pickles import follow

    at, faults = 0, 0
    while at < len(content) and faults < 10_000:
        at = content.find(b"\x80", at) if content[at : at + 1] != b"\x80" else at
        if at < 0:
            return
        walk = follow(content, at, limit=100_000)
        if not found.spend(COST * walk.opcodes, name):
            return
        if walk.names:
            scan(content[at : walk.end], name, f"{member}, byte {at}", found)
        faults += walk.fault is not None
        at = max(walk.end if walk.fault is None else at + 1, at + 1)
