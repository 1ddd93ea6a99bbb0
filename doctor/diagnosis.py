"""The flow: subject, probes, evidence, checks, findings, trials, report."""

from __future__ import annotations

import time
from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

from doctor import config, probes, registry, suppressions
from doctor.config import Settings
from doctor.evidence.base import Evidence
from doctor.evidence.program_run import ProgramRun
from doctor.evidence.recording import Recording
from doctor.evidence.reference_run import ReferenceRun
from doctor.evidence.training_trace import TrainingTrace
from doctor.observe.plan import DEFAULT_SOFT_SECONDS
from doctor.progress import Progress, SilentProgress
from doctor.ranking import ranked
from doctor.report import Report, SkippedRule, SubjectSummary, summarise
from doctor.subjects.program import Program, Run, script_program
from doctor.symptoms import grouped
from doctor.trials.differential import Differential
from doctor.trials.patched import Patches
from doctor.trials.trial import Trials

_E = TypeVar("_E", bound=Evidence)

if TYPE_CHECKING:
    from doctor.findings import Finding
    from doctor.registry import Rule, Skip
    from doctor.subjects.case import Case


def diagnose_target(
    target: str,
    arguments: tuple[str, ...] = (),
    settings: Settings | None = None,
    *,
    progress: Progress | None = None,
    record: Path | None = None,
) -> Report:
    """Diagnose a script, a declared case (`module.py:case`) or a recording; raises DoctorError for what is none."""
    settings = settings or Settings()
    if target.endswith(".evidence"):
        made = Path(target).stat().st_mtime if Path(target).exists() else None
        return _examine(Recording.load(Path(target)), None, target, settings, progress or SilentProgress(), made)
    program = script_program(target, arguments, settings.timeout_s)
    return _diagnose(program, settings, progress or SilentProgress(), record, arguments)


def diagnose(case: Case, **changes: Any) -> Report:
    """Diagnose a declared case in this process; `changes` are fields of `Settings` (`steps=40, select=("OPT",)`)."""
    return _diagnose(case, config.changed(Settings(), **changes), SilentProgress(), None)


def _diagnose(
    program: Program, settings: Settings, progress: Progress, record: Path | None, arguments: tuple[str, ...] = ()
) -> Report:
    began = time.time()
    recording = observe(program, settings, progress)
    if record is not None:
        recording.save(record)
    return _examine(recording, program, program.name, settings, progress, began, arguments)


def observe(program: Program, settings: Settings, progress: Progress) -> Recording:
    """Run the program once; once more, with every value noted, when its numbers stop being finite."""
    progress.start(f"observing {program.name}", settings.steps)
    recording = program.run(Run(settings.steps, soft_seconds=DEFAULT_SOFT_SECONDS), progress.advance)
    trace = probes.gather([recording], [TrainingTrace])[TrainingTrace]
    broken = trace.first_non_finite_step() if isinstance(trace, TrainingTrace) else None
    if broken is not None:
        progress.start("looking for the first non-finite number", broken.index + 1)
        hunt = program.run(Run(broken.index + 1, hunt_step=broken.index), progress.advance)
        origins = [event for event in hunt.of("tape") if event.get("origin")]
        recording = Recording((*recording.events[:-1], *origins, *recording.events[-1:]))
    progress.finish()
    return recording


def _examine(
    recording: Recording,
    program: Program | None,
    target: str,
    settings: Settings,
    progress: Progress,
    since: float | None,
    arguments: tuple[str, ...] = (),
) -> Report:
    """Check, try and rank; patches are made only of files that were not written after the time `since`."""
    started = time.monotonic()
    rules = _rules(settings)
    findings, skipped = check(recording, rules, settings)
    findings = list(grouped(findings, repeats=False))
    trials, differential, order = 0, None, ranked(findings)
    evidence = probes.gather([recording], [TrainingTrace, ReferenceRun])
    if settings.confirm and program is not None and (findings or _stands_still(evidence)):
        with program.prepared(recording) as prepared:
            trial = Trials(prepared, recording, settings, progress, lambda other: check(other, rules, settings)[0])
            if _stands_still(evidence):
                differential = trial.differentiate(_known(evidence, ReferenceRun))
            side = differential.side if differential else "unknown"
            order = trial.prescribe(ranked(trial.judge(findings, side), side), since)
            trials = trial.count
    else:
        order = Patches(None, 0, lambda _: [], since).prescribe(order)
    report = _report(recording, rules, order, skipped, trials, differential, target, arguments, started)
    return suppressions.applied(report, settings)


def _known(found: probes.Found, kind: type[_E]) -> _E | None:
    have = found[kind]
    return have if isinstance(have, kind) else None


def _stands_still(found: probes.Found) -> bool:
    trace = _known(found, TrainingTrace)
    return trace is not None and trace.stands_still()


def check(recording: Recording, rules: Iterable[Rule], settings: Settings) -> tuple[list[Finding], list[Skip]]:
    """Gather the evidence that the rules ask for, and run them on it."""
    probes.load()
    rules = tuple(look for rule in rules for look in rule.looks_at((Recording,)))
    wanted = {need.kind for rule in rules for need in rule.needs}
    return registry.run(rules, probes.gather([recording], wanted), settings.rules)


def _rules(settings: Settings) -> tuple[Rule, ...]:
    """The selected rules that concern a program: what looks at nothing of it has not found it fine."""
    probes.load()
    chosen = (*settings.select, *settings.extend_select) if settings.select else ()
    selected = registry.select(registry.load(), chosen, settings.ignore)
    return tuple(rule for rule in selected if rule.looks_at((Recording,)))


def _report(
    recording: Recording,
    rules: tuple[Rule, ...],
    findings: tuple[Finding, ...],
    skipped: list[Skip],
    trials: int,
    differential: Differential | None,
    target: str,
    arguments: tuple[str, ...],
    started: float,
) -> Report:
    run = probes.gather([recording], [ProgramRun])[ProgramRun]
    assert isinstance(run, ProgramRun)
    looked_away = {skip.rule for skip in skipped}
    hit = {finding.rule for finding in findings}
    fine = tuple(rule.code for rule in rules if rule.code not in hit | looked_away)
    unlooked = tuple(SkippedRule(rule=skip.rule, reason=skip.reason) for skip in skipped)
    seconds = run.seconds + time.monotonic() - started
    return Report(
        subject=SubjectSummary(
            kind="program",
            target=target,
            arguments=arguments,
            outcome=run.outcome,
            ending=run.ending,
            steps=run.steps,
            seconds=round(run.seconds, 2),
        ),
        summary=summarise(findings, unlooked, fine, round(seconds, 2), trials),
        findings=findings,
        evidence={"trace": _trace(recording)} | ({"differential": differential.model_dump()} if differential else {}),
        skipped=unlooked,
        fine=fine,
        notes=tuple(registry.warnings),
    )


def _trace(recording: Recording) -> list[dict[str, Any]]:
    kept = ("index", "optimizer", "loss", "lr", "gradient_norm", "update_ratio")
    return [{name: event[name] for name in kept} for event in recording.of("step")]
