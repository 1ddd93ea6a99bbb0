"""The deployment gate: an artifact, read and never executed, held against the rules that concern artifacts."""

from __future__ import annotations

import time
from dataclasses import asdict
from pathlib import Path
from typing import Any

from doctor import probes, registry, suppressions
from doctor.config import Settings
from doctor.errors import DoctorError, Unavailable
from doctor.evidence.artifact_contents import ArtifactContents
from doctor.evidence.artifact_run import ArtifactRun
from doctor.evidence.artifact_source import ArtifactSource
from doctor.evidence.reference_model import ReferenceModel
from doctor.evidence.reference_process import ReferenceProcess
from doctor.findings import Effect, Finding, Severity, Verdict
from doctor.ranking import ranked
from doctor.registry import Rule
from doctor.report import Report, SkippedRule, SubjectSummary, summarise
from doctor.subjects.artifact import artifact
from doctor.symptoms import grouped

EVIDENCE = (
    "artifact_contents",
    "artifact_run",
    "artifact_source",
    "io_contract",
    "pickle_manifest",
    "reference_model",
    "reference_process",
    "weight_stats",
)  # the modules of doctor.evidence about artifacts


def gate(target: str, settings: Settings | None = None, **options: Any) -> Report:
    """Judge the artifact at a path; `options` are fields of ArtifactSource (`reference="net.py:build"`).

    Raises DoctorError when there is no artifact of a known format.
    """
    settings = settings or Settings()
    began = time.monotonic()
    source = artifact(target, **options)
    rules = _rules(settings)
    looks = tuple(look for rule in rules for look in rule.looks_at((ArtifactSource,)) if _concerns(look))
    wanted = {need.kind for look in looks for need in look.needs} | {ArtifactContents}
    early = {ReferenceProcess} & {kind for want in wanted for kind in probes.computed_from(want)}
    started = probes.gather([source], early)  # the reference is built while the files are read
    try:
        found = probes.gather([source], wanted, started)
    finally:
        _close(started.get(ReferenceProcess))
    contents, reference = found[ArtifactContents], found.get(ReferenceModel)
    if isinstance(contents, Unavailable):  # nothing examined is no pass
        raise DoctorError(str(contents))
    if source.reference and isinstance(reference, Unavailable):  # asked for and not to be had: nothing was compared
        raise DoctorError(str(reference))
    run = found.get(ArtifactRun)
    if source.inputs and isinstance(run, ArtifactRun) and run.inputs_error:
        raise DoctorError(run.inputs_error, "see --inputs")
    findings, skips = registry.run(looks, found, settings.rules)
    crashed = [skip for skip in skips if skip.crashed]
    if crashed and not any(finding.level is not Severity.INFO for finding in findings):
        raise DoctorError(f"{crashed[0].rule} {crashed[0].reason}")
    order = ranked(grouped([_observed(finding) for finding in findings]))
    away, hit = {skip.rule for skip in skips}, {finding.rule for finding in order}
    fine = tuple(dict.fromkeys(look.code for look in looks if look.code not in away | hit))
    skipped = tuple(SkippedRule(rule=skip.rule, reason=skip.reason) for skip in skips)
    seconds = round(time.monotonic() - began, 2)
    report = Report(
        subject=_subject(source, contents, seconds),
        summary=summarise(order, skipped, fine, seconds, 0),
        findings=order,
        evidence={"artifact": {"format": source.format, "files": _files(source, contents)}}
        | ({"run": asdict(run)} if isinstance(run, ArtifactRun) else {}),
        skipped=skipped,
        fine=fine,
        notes=tuple(registry.warnings),
    )
    return suppressions.applied(report, settings)


def _rules(settings: Settings) -> tuple[Rule, ...]:
    """The selected rules, as far as they may concern artifacts: the others' modules are not imported, nor their evidence.

    Every kind of evidence about artifacts has its probe in its own module, hence comes with the rule that asks for it.
    """
    chosen = (*settings.select, *settings.extend_select) if settings.select else ()
    try:
        return registry.select(registry.load(using=EVIDENCE), chosen, settings.ignore)
    except DoctorError:  # a selector of other rules, or of none
        probes.load()
        return registry.select(registry.load(), chosen, settings.ignore)


def _close(process: object) -> None:
    if isinstance(process, ReferenceProcess):
        process.process.close()


def _observed(finding: Finding) -> Finding:
    """What was shown by reading or running the artifact needs no trial."""
    if finding.demonstrated is None or finding.level is Severity.INFO:
        return finding
    return finding.revised(verdict=Verdict.CONFIRMED, effect=Effect(statistic="observation", note=finding.demonstrated))


def _concerns(look: Rule) -> bool:
    """Whether a look needs something of an artifact; one that needs nothing at all is no rule about artifacts."""
    return any(ArtifactSource in probes.roots(need.kind) for need in look.needs if need.required)


def _files(source: ArtifactSource, contents: object) -> list[dict[str, Any]]:
    """The artifact's files, and those that they refer to: shards, external data."""
    files = [vars(file) for file in source.files]
    known = {file.path for file in source.files}
    if isinstance(contents, ArtifactContents):
        referred = dict.fromkeys(tensor.file for tensor in contents.tensors if tensor.file not in known)
        sizes = {name: Path(source.root, name) for name in referred if name}
        files += [
            {"path": name, "size": path.stat().st_size, "format": "data"}
            for name, path in sizes.items()
            if path.is_file()
        ]
    return files


def _subject(source: ArtifactSource, contents: object, seconds: float) -> SubjectSummary:
    count = f"{len(contents.weights)} tensors, " if isinstance(contents, ArtifactContents) else ""
    files = f"{len(source.files)} files, " if len(source.files) > 1 else ""
    size = f"{source.size / 1e6:.1f} MB" if source.size >= 1e5 else f"{source.size / 1e3:.1f} kB"
    ending = f"{source.format}, {files}{count}{size}"
    return SubjectSummary(kind="artifact", target=source.path, outcome="read", ending=ending, seconds=seconds)
