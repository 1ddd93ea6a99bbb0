"""The gate's certificate: what was judged, byte for byte, by which rules, and what came of it.

It has the form of an in-toto statement, so that tools which sign and store attestations take it as it is. Of itself it
is no signature: its own digest tells an accident from what was written, and nothing of who wrote it.
"""

from __future__ import annotations

import hashlib
import importlib.metadata
import json
import os
import platform
from collections.abc import Iterable, Mapping
from datetime import UTC, datetime
from pathlib import Path, PurePosixPath
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError

import doctor
from doctor import registry
from doctor.config import Settings
from doctor.errors import DoctorError
from doctor.report import Report, SkippedRule

STATEMENT = "https://in-toto.io/Statement/v1"
PREDICATE = "urn:pytorch-doctor:gate:1"
_LIBRARIES = ("torch", "numpy", "safetensors", "onnx", "onnxruntime", "transformers")


class _Record(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", populate_by_name=True)


class HashedFile(_Record):
    """One file of the artifact, by its path from the artifact's folder; `digest` holds its `sha256`."""

    name: str
    digest: dict[str, str]

    @property
    def sha256(self) -> str:
        """The hash, in lower-case hexadecimal digits."""
        return self.digest.get("sha256", "")


class AttestedFinding(_Record):
    """A finding as far as the verdict goes."""

    rule: str
    name: str
    severity: str
    message: str
    fingerprint: str
    suppressed: dict[str, str] | None = None


class Judgement(_Record):
    """What the gate did and found. `looked` maps each rule that looked to the thresholds it held against."""

    verdict: Literal["passed", "failed"]
    reasons: tuple[str, ...] = ()
    time: datetime
    target: str
    format: str
    sizes: dict[str, int]
    policy: dict[str, Any]
    options: dict[str, Any] = Field(default_factory=dict)
    looked: dict[str, dict[str, Any]]
    skipped: tuple[SkippedRule, ...] = ()
    ignored: dict[str, str] = Field(default_factory=dict)
    findings: tuple[AttestedFinding, ...] = ()
    versions: dict[str, str] = Field(default_factory=dict)
    digest: str = ""


class Certificate(_Record):
    """The statement: the files, and the judgement on them."""

    type: str = Field(default=STATEMENT, alias="_type")
    subject: tuple[HashedFile, ...]
    predicate_type: str = Field(default=PREDICATE, alias="predicateType")
    predicate: Judgement

    @property
    def sealed(self) -> Certificate:
        """The certificate with its own digest filled in."""
        return self.model_copy(update={"predicate": self.predicate.model_copy(update={"digest": self._own_digest()})})

    @property
    def intact(self) -> bool:
        """Whether it is as it was written."""
        return self.predicate.digest == self._own_digest()

    def _own_digest(self) -> str:
        plain = self.model_dump(mode="json", by_alias=True)
        plain["predicate"].pop("digest")
        return hashlib.sha256(json.dumps(plain, sort_keys=True).encode()).hexdigest()

    def text(self) -> str:
        """The certificate as JSON."""
        return json.dumps(self.model_dump(mode="json", by_alias=True), indent=2) + "\n"


def files_of(target: Path) -> tuple[Path, tuple[str, ...]]:
    """The folder of an artifact and the names in it: all files of a folder, or the one file. Raises DoctorError."""
    if target.is_dir():
        inner = (Path(folder) / name for folder, _, names in os.walk(target) for name in names)
        return target, tuple(sorted(path.relative_to(target).as_posix() for path in inner))
    if not target.is_file():
        raise DoctorError(f"no file or folder {target}")
    return target.parent, (target.name,)


def hashes(root: Path, names: Iterable[str]) -> dict[str, HashedFile | None]:
    """The SHA-256 of each file, in the order of the names; None for one that cannot be read."""
    found: dict[str, HashedFile | None] = {}
    for name in names:
        try:
            with (root / name).open("rb") as stream:
                digest = hashlib.file_digest(stream, "sha256").hexdigest()
            found[name] = HashedFile(name=name, digest={"sha256": digest})
        except OSError:
            found[name] = None
    return found


def states(root: Path, names: Iterable[str]) -> dict[str, tuple[int, ...] | None]:
    """What tells that a file was written to: device, number, size and time of its last change."""
    found: dict[str, tuple[int, ...] | None] = {}
    for name in names:
        try:
            told = (root / name).stat()
            found[name] = (told.st_dev, told.st_ino, told.st_size, told.st_mtime_ns)
        except OSError:
            found[name] = None
    return found


def attest(
    report: Report,
    root: Path,
    files: Iterable[str],
    settings: Settings,
    reasons: tuple[str, ...],
    options: Mapping[str, Any],
    now: datetime | None = None,
) -> Certificate:
    """Certify a gate's report on the files below `root`; `reasons` say why it failed, and are empty when it passed.

    Raises DoctorError when a file cannot be read.
    """
    hashed = hashes(root, files)
    for name in hashed:
        if not name.isprintable():
            raise DoctorError(f"the file name {name!r} cannot be attested", "rename it, in printable characters")
    lost = [name for name, file in hashed.items() if file is None]
    if lost:
        raise DoctorError(f"{root / lost[0]} cannot be read", "nothing is attested of files that cannot be hashed")
    subject = tuple(file for file in hashed.values() if file is not None)
    rules = registry.load()
    looked = sorted({*report.fine, *(finding.rule for finding in report.findings)})
    if not looked:
        raise DoctorError("no rule looked at the artifact: there is nothing to attest")
    thresholds = {
        code: {
            key: value
            for look in rules[code].looks
            if (limits := registry.limits_for(look, settings.rules)) is not None
            for key, value in limits.model_dump(mode="json").items()
        }
        for code in looked
        if code in rules
    }
    judgement = Judgement(
        verdict="failed" if reasons else "passed",
        reasons=reasons,
        time=(now or datetime.now(UTC)).replace(microsecond=0),
        target=report.subject.target,
        format=str(report.evidence.get("artifact", {}).get("format", "")),
        sizes={file.name: (root / file.name).stat().st_size for file in subject},
        policy={
            "fail-on": settings.fail_on,
            **settings.gate.model_dump(mode="json", by_alias=True, exclude={"fail_on"}),
        },
        options={name: value for name, value in options.items() if value is not None},
        looked=thresholds,
        skipped=report.skipped,
        ignored=settings.ignore,
        findings=tuple(
            AttestedFinding(
                rule=finding.rule,
                name=finding.name,
                severity=finding.level,
                message=finding.message,
                fingerprint=finding.fingerprint,
                suppressed=finding.suppressed,
            )
            for finding in report.findings
        ),
        versions=versions(),
    )
    return Certificate(subject=subject, predicate=judgement).sealed


def versions() -> dict[str, str]:
    """The doctor, Python, the system, and the libraries that read and run artifacts, as far as installed."""
    found = {"doctor": doctor.__version__, "python": platform.python_version(), "platform": platform.platform()}
    for name in _LIBRARIES:
        try:
            found[name] = importlib.metadata.version(name)
        except importlib.metadata.PackageNotFoundError:
            continue
    return found


def load(path: Path) -> Certificate:
    """The certificate of this file; raises DoctorError when it is none."""
    try:
        found = Certificate.model_validate_json(path.read_bytes())
    except OSError as failure:
        raise DoctorError(f"the certificate {path} cannot be read: {failure.strerror}") from None
    except ValidationError as failure:
        first = failure.errors()[0]
        where = ".".join(str(part) for part in first["loc"])
        raise DoctorError(
            f"{path} is no certificate of the gate: {f'{where}: ' if where else ''}{first['msg']}"
        ) from None
    if (found.type, found.predicate_type) != (STATEMENT, PREDICATE):
        raise DoctorError(f"{path} is no certificate of the gate: {found.predicate_type}")
    for file in found.subject:
        inner = PurePosixPath(file.name)
        if inner.is_absolute() or ".." in inner.parts:
            raise DoctorError(f"{path} names the file {file.name}, which lies outside the artifact")
    if not found.subject:
        raise DoctorError(f"{path} attests no file")
    return found


def verify(found: Certificate, target: Path, certificate: Path) -> list[str]:
    """Why the artifact is not to be deployed on this certificate, a line each; empty when nothing speaks against it.

    In a folder every file must have been judged, but the certificate's own; a single file may have another name by now.
    Raises DoctorError when there is no such artifact.
    """
    root, present = files_of(target)
    present = tuple(name for name in present if (root / name).resolve() != certificate.resolve())
    names = {file.name: file.name for file in found.subject}
    if target.is_file():
        names[found.subject[0].name] = target.name
    now = hashes(root, names.values())
    lines = []
    if not found.intact:
        lines.append("the certificate was changed after it was written")
    for file in found.subject:
        name = names[file.name]
        here = now[name]
        if here is None:
            lines.append(f"{name}: missing, or not readable")
        elif here.sha256 != file.sha256:
            lines.append(
                f"{name}: differs from what was judged (SHA-256 {here.sha256[:16]}…, judged {file.sha256[:16]}…)"
            )
    lines += [f"{name}: was not there when the gate judged" for name in present if name not in names.values()]
    if found.predicate.verdict != "passed":
        lines.append(f"the gate had failed: {'; '.join(found.predicate.reasons) or 'no reason recorded'}")
    return lines
