"""All records of text files as evidence, line by line."""

from __future__ import annotations

import codecs
import json
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from itertools import chain, islice
from pathlib import Path
from typing import Any

import numpy as np

from doctor.errors import DoctorError
from doctor.evidence.samples import TRAINING
from doctor.evidence.text_records import Place, TextRecords
from doctor.progress import Progress
from doctor.samples import splits
from doctor.samples.archives import Packed
from doctor.samples.columns import Columns
from doctor.samples.hashed_words import hashed_words
from doctor.samples.items import PROSE, Item, Layout
from doctor.samples.minhash import SIZE, plain, sketch
from doctor.samples.reading import digest
from doctor.samples.records import Form, Record, form_of, record_of
from doctor.samples.sensitive import sensitive
from doctor.samples.tokens import Tokenizing
from doctor.samples.wording import damage, endless

_LOOKED_AT = 500  # records from which the form is recognised
_WORDED = 4000  # records whose words are kept, to compare prompts with answers
_KNOWN = "known: messages, instruction and output, prompt and completion, text and label, text"
_SHORT = 25  # characters: shorter texts repeat by themselves ("thank you")


def scan_texts(
    layout: Layout, progress: Progress, target: str | None = None, tokenizing: Tokenizing | None = None
) -> TextRecords:
    """Read every record once; raises DoctorError where the records have no form that is known."""
    form = _form(layout, target)
    progress.start("reading records", None)
    scan = _Scan(form, tokenizing, "document" if layout.documents else "record")
    seen: Counter[str | None] = Counter()  # documents by split: their number, where a file is one
    for item in layout.items:
        for number, (line, bad_bytes) in enumerate(lines_of(item.path, layout.documents)):
            if line.strip():
                scan.take(item, seen[item.split] if layout.documents else number, line, bad_bytes)
                seen[item.split] += 1
                if scan.lines % 500 == 0:
                    progress.advance(scan.lines)
    progress.finish()
    return scan.result(_taken(layout))


def _taken(layout: Layout) -> tuple[str, ...]:
    """How prose was taken apart: nothing in it says so."""
    prose = sum(item.path.suffix.lower() == PROSE for item in layout.items)
    if not prose:
        return ()
    files = f"{prose} .txt files" if prose > 1 else "the .txt file"
    return (f"each of {files} is one text",) if layout.documents else (f"each line of {files} is one text",)


def scan_records(
    stream: Iterable[tuple[tuple[str, str, int], Mapping[str, Any]]],
    progress: Progress,
    target: str | None = None,
    tokenizing: Tokenizing | None = None,
) -> TextRecords:
    """Read records that are in memory, each with its place: split, name, number."""
    source = iter(stream)
    peeked = list(islice(source, _LOOKED_AT))
    form = form_of([record for _, record in peeked], target)
    if form is None:
        raise DoctorError("the records hold no texts of a known form", _KNOWN)
    progress.start("reading records", None)
    scan = _Scan(form, tokenizing)
    for place, record in chain(peeked, source):
        scan.read(place, record)
        if scan.lines % 500 == 0:
            progress.advance(scan.lines)
    progress.finish()
    return scan.result()


def recognised(layout: Layout, target: str | None = None) -> bool:
    """Whether these files hold records of a known form (and no table)."""
    try:
        _form(layout, target)
    except DoctorError:
        return False
    return True


def _form(layout: Layout, target: str | None) -> Form:
    looked_at: list[dict[str, Any]] = []
    for item in layout.items:
        if item.path.suffix.lower() == PROSE:
            return Form("classified" if any(item.label is not None for item in layout.items) else "plain", "text")
        here = 0
        for line, _ in lines_of(item.path):
            try:
                record = json.loads(line)
            except ValueError:
                continue
            if isinstance(record, dict):
                looked_at.append(record)
                here += 1
            if here >= _LOOKED_AT:
                break
    form = form_of(looked_at, target) if looked_at else None
    if form is None:
        raise DoctorError(f"{layout.items[0].path} holds no texts of a known form", _KNOWN)
    return form


def lines_of(path: Path | Packed, documents: bool = False) -> Iterator[tuple[str, str | None]]:
    """Lines as text, each with what is wrong with its bytes. A file with one JSON array gives its elements.

    With `documents` a file of prose is taken whole.
    """
    if documents and path.suffix.lower() == PROSE:
        lines = list(lines_of(path))
        yield "\n".join(line for line, _ in lines), next((wrong for _, wrong in lines if wrong), None)
        return
    with path.open("rb") as stream:
        head = stream.read(4)
        stream.seek(0)
        if head.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)):
            for line in stream.read().decode("utf-16", "replace").split("\n"):
                yield line, "UTF-16 instead of UTF-8"
            return
        if path.suffix.lower() == ".json" and stream.read(64).lstrip(codecs.BOM_UTF8).lstrip()[:1] == b"[":
            stream.seek(0)
            try:
                for element in json.loads(stream.read().decode("utf-8-sig", "replace")):
                    yield json.dumps(element), None
            except ValueError as failure:
                raise DoctorError(f"{path} is no JSON: {failure}") from None
            return
        stream.seek(3 if head.startswith(codecs.BOM_UTF8) else 0)
        for raw in stream:
            try:
                yield raw.decode("utf-8").rstrip("\r\n"), None
            except UnicodeDecodeError:
                yield raw.decode("cp1252", "replace").rstrip("\r\n"), "bytes that are no UTF-8"


class _Scan:
    """The columns so far."""

    def __init__(self, form: Form, tokenizing: Tokenizing | None, unit: str = "record") -> None:
        self._form = form
        self._tokenizing = tokenizing
        self._columns = Columns("text", unit)
        self.lines = 0
        self._malformed: list[Place] = []
        self._roles: list[Place] = []
        self._open: list[Place] = []
        self._bytes: list[Place] = []
        self._damaged: list[Place] = []
        self._endless: list[Place] = []
        self._letters: list[int] = []
        self._answers: list[int] = []
        self._sketches: list[Any] = []
        self._systems: set[bytes] = set()
        self._ids: list[tuple[int, int]] = []
        self._sensitive: list[tuple[str, bool, Place]] = []
        self._overlap: list[tuple[int, Any, Any]] = []

    def take(self, item: Item, number: int, line: str, bad_bytes: str | None) -> None:
        """One line of a file."""
        self.lines += 1
        place = (item.split or TRAINING, item.name, number)
        if bad_bytes:
            self._bytes.append((*place, bad_bytes))
        if item.path.suffix.lower() == PROSE:
            self._keep(place, Record(line, item.label))
            return
        try:
            raw = json.loads(line)
        except ValueError as failure:
            cut = (
                "the line breaks off"
                if "Unterminated" in str(failure) or str(failure).endswith(f"{len(line) + 1})")
                else "no JSON"
            )
            self._malformed.append((*place, f"{cut}: {str(failure).partition(':')[0]}"))
            return
        if not isinstance(raw, dict):
            self._malformed.append((*place, "no JSON object"))
            return
        self._record(place, raw)

    def read(self, place: tuple[str, str, int], raw: Mapping[str, Any]) -> None:
        """One record of a place: split, file, number."""
        self.lines += 1
        self._record(place, raw)

    def _record(self, place: tuple[str, str, int], raw: Mapping[str, Any]) -> None:
        record = record_of(raw, self._form)
        if record.wrong:
            self._malformed.append((*place, record.wrong))
            return
        own = splits.of_word(raw.get(self._form.split)) if self._form.split else None
        self._keep((own or place[0], *place[1:]), record)

    def _keep(self, place: tuple[str, str, int], record: Record) -> None:
        whole = f"{record.system}\n{record.text}\n{record.answer or ''}"
        if record.roles:
            self._roles.append((*place, record.roles))
        if record.ends_open:
            self._open.append((*place, "no answer after the last turn"))
        self._sensitive += [(kind, personal, (*place, shown)) for kind, personal, shown in sensitive(whole)]
        damaged = damage(whole)
        if damaged:
            self._damaged.append((*place, damaged))
        if endless(record.answer or record.text):
            self._endless.append((*place, "the same words again and again"))
        if record.system:
            self._systems.add(digest(record.system.encode("utf-8", "replace")))
        if self._form.kind == "ids":
            self._ids.append((min(record.ids, default=0), max(record.ids, default=0)))
        text = " ".join(record.text.split())
        answer = record.answer.strip() if record.answer is not None else None
        classified = self._form.kind == "classified"
        if record.ids:
            content: bytes | None = digest(np.array(record.ids, np.int64).tobytes())
        else:
            content = digest(text.encode("utf-8", "replace")) if text else None
        features = hashed_words(record.text) if classified and self._columns.wants_features() else None
        if answer and text and not classified and len(self._overlap) < _WORDED:
            self._overlap.append((len(self._columns), hashed_words(text), hashed_words(answer)))
        length = len(record.ids) or len(text)
        self._columns.add(place[1], place[0], answer or None if classified else None, content,
                          None if classified or not answer else digest(answer.encode("utf-8", "replace")),
                          features, repeatable=length < _SHORT, row=place[2])  # fmt: skip
        self._letters.append(length)
        self._answers.append(-1 if record.answer is None else len(answer or ""))
        words = plain(record.text if classified or not record.answer else f"{record.text} {record.answer}")
        self._sketches.append(sketch(words) if not record.ids else np.zeros(SIZE, np.uint32))
        if self._tokenizing is not None:
            self._tokenizing.take(record)

    def result(self, notes: tuple[str, ...] = ()) -> TextRecords:
        """All of it; raises DoctorError when no record could be read."""
        if not len(self._columns):
            raise DoctorError("none of the records could be read", self._malformed[0][3] if self._malformed else None)
        form = self._form
        kept = [np.stack(part) for part in zip(*self._overlap, strict=True)] if self._overlap else None
        return TextRecords(
            samples=self._columns.samples(notes),
            form=form.kind,
            answer_key=form.answer or ("assistant" if form.kind == "chat" else ""),
            lines=self.lines,
            malformed=tuple(self._malformed),
            wrong_roles=tuple(self._roles),
            open_ended=tuple(self._open),
            undecodable=tuple(self._bytes),
            damaged=tuple(self._damaged),
            endless=tuple(self._endless),
            letters=np.array(self._letters, np.int64),
            answer_letters=np.array(self._answers, np.int64),
            sketches=np.stack(self._sketches),
            systems=len(self._systems),
            ids=np.array(self._ids, np.int64) if self._ids else None,
            overlap=(kept[0], kept[1], kept[2]) if kept else None,
            sensitive=tuple(self._sensitive),
            tokens=self._tokenizing.result() if self._tokenizing else None,
        )
