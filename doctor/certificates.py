"""What `doctor gate` does with certificates: writing one of what was judged, and holding an artifact against one."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from doctor import attestation, output, requirement
from doctor.attestation import Certificate
from doctor.config import Settings
from doctor.errors import DoctorError
from doctor.report import Report


class Writer:
    """Made before the artifact is judged: what is written to in between is not attested."""

    def __init__(self, target: Path, certificate: Path) -> None:
        self._target, self._certificate = target, certificate
        self._root, names = attestation.files_of(target)
        self._names = self._without_own(names)
        self._before = attestation.states(self._root, self._names)

    def _without_own(self, names: Iterable[str]) -> list[str]:
        own = self._certificate.resolve()
        return [name for name in dict.fromkeys(names) if (self._root / name).resolve() != own]

    def write(self, report: Report, settings: Settings, not_looked: Iterable[str], options: Mapping[str, Any]) -> str:
        """Write the certificate of this report, and tell of it in a line.

        `not_looked` are the complaints about required rules; with the findings at the failing level they decide the
        verdict. Raises DoctorError when the artifact was written to since the writer was made.
        """
        listed = [file["path"] for file in report.evidence.get("artifact", {}).get("files", ())]
        failing = settings.failing_level
        faults = [finding for finding in report.active if failing and finding.level.rank <= failing.rank]
        reasons = [f"{fault.level} {fault.rule} {fault.name}: {fault.message}" for fault in faults]
        made = attestation.attest(
            report,
            self._root,
            self._without_own([*listed, *self._names]),
            settings,
            (*reasons, *not_looked),
            {**options, "inputs-sha256": _hash(options.get("inputs"))},
        )
        if attestation.states(self._root, self._names) != self._before:
            raise DoctorError(f"{self._target} was written to while it was judged", "judge it when it is complete")
        output.write(self._certificate, made.text())
        count = len(made.subject)
        return f"{self._certificate}: {made.predicate.verdict}, {count} file{'s' * (count != 1)} attested"


@dataclass(frozen=True)
class Verification:
    """The outcome of holding an artifact against a certificate; `lines` say why it does not hold, and what to know."""

    holds: bool
    headline: str
    lines: tuple[str, ...]


def verification(target: Path, certificate: Path, required: tuple[str, ...]) -> Verification:
    """Whether the artifact is what a gate has judged, and passed, and the `required` rules had looked then.

    Raises DoctorError when the certificate is none, or there is no artifact.
    """
    found = attestation.load(certificate)
    against = attestation.verify(found, target, certificate)
    judged = found.predicate
    against += requirement.not_looked(required, judged.looked, {skip.rule: skip.reason for skip in judged.skipped})
    headline = (
        f"{target}: {'not verified' if against else 'verified'}; judged {judged.time:%Y-%m-%d %H:%M} UTC "
        f"by doctor {judged.versions.get('doctor', '?')}, {len(judged.looked)} rules looked"
    )
    return Verification(not against, headline, (*against, *_to_know(found)))


def _to_know(found: Certificate) -> list[str]:
    judged = found.predicate
    lines = [f"note: {skip.rule} had not looked: {skip.reason}" for skip in judged.skipped]
    lines += [f"note: {rule} was ignored: {reason}" for rule, reason in judged.ignored.items()]
    for finding in judged.findings:
        if finding.suppressed is not None:
            by, why = finding.suppressed.get("by", ""), finding.suppressed.get("why", "")
            lines.append(f"note: accepted by {by}: {finding.rule} {finding.name}: {why}")
    return lines


def _hash(path: str | None) -> str | None:
    if path is None:
        return None
    sample = Path(path)
    found = attestation.hashes(sample.parent, [sample.name])[sample.name]
    return found.sha256 if found else None
