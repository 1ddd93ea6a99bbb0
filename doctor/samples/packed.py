"""The samples in archives as a layout: class folders in a zip, or WebDataset shards, whose files of one sample share a key."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from doctor.errors import DoctorError
from doctor.samples import splits
from doctor.samples.archives import Listing, Packed, key_of, label_in, listing
from doctor.samples.items import Item, Layout, media_kind
from doctor.samples.records import LABELS

_OTHERS = (".csv", ".tsv", ".jsonl", ".parquet", ".npz", ".npy", ".txt")


def of_archives(given: Sequence[tuple[Path, str | None]], root: Path, target: str | None) -> Layout:
    """The images or recordings (of whichever there are more); raises DoctorError where there are none."""
    held = [(path, split or splits.of_stem(path.name.partition(".")[0]), listing(path)) for path, split in given]
    kinds = Counter(kind for _, _, one in held for member in one.members if (kind := media_kind(member.suffix.lower())))
    if not kinds:
        others = [str(m.inside) for _, _, one in held for m in one.members if m.suffix.lower() in _OTHERS]
        what = f"no images and no recordings, but {others[0]}" if others else "no images and no recordings"
        raise DoctorError(f"{given[0][0]} holds {what}", "only these are read inside an archive: unpack it")
    kind = kinds.most_common(1)[0][0]
    items = [item for path, split, one in held for item in _items(path, split, one, kind, target, len(held) > 1)]
    if len({item.label for item in items} - {None}) < 2:
        items = [replace(item, label=None) for item in items]
    return Layout(kind, tuple(items), root, transcribed=kind == "audio" and any(item.text for item in items))


def _items(path: Path, split: str | None, held: Listing, kind: str, target: str | None, several: bool) -> list[Item]:
    members = [m for m in held.members if media_kind(m.suffix.lower()) == kind]
    keyed = bool(held.beside) and sum(key_of(m.inside) in held.beside for m in members) > 0.5 * len(members)
    items = []
    for member in members:
        beside = held.beside.get(key_of(member.inside), {}) if keyed else {}
        label = label_in(beside, target, LABELS) if keyed else splits.class_folder(member.inside)
        items.append(
            Item(
                member,
                f"{path.name}/{member.inside}" if several else str(member.inside),
                split or splits.of_folders(member.inside),
                label,
                (beside.get("txt", "") if keyed else None) if kind == "audio" else None,
            )
        )
    if keyed:
        items += _without_media(path, split, held, {key_of(m.inside) for m in members}, several)
    items += [Item(m, f"{path.name} {m.inside}", split) for m in held.members if m.inside.name == "(the rest)"]
    return items


def _without_media(path: Path, split: str | None, held: Listing, known: set[str], several: bool) -> list[Item]:
    """Samples whose files lack the image or recording: what reads them fails, and says so."""

    def missing(key: str) -> bytes:
        raise OSError(f"no file of it beside {key}.{next(iter(held.beside[key]))}")

    items = []
    for key in held.beside:
        if key not in known and "cls" in held.beside[key]:
            first = next(m for m in held.members if key_of(m.inside) == key)
            packed = Packed(path, first.inside.with_suffix(""), lambda key=key: missing(key))  # type: ignore[misc]
            items.append(Item(packed, f"{path.name}/{key}" if several else key, split))
    return items
