"""How often a trial confirms a cure that nobody needs: `python -m benchmarks.false_confirmation [NAME ...]`.

Every treatment that can be applied to a healthy program is put on trial there, as if a rule had suspected its fault.
What the program is given is meant to be good already, so every "confirmed" is a false confirmation: of the trial alone,
before any rule has looked. The rules multiply this by the rate at which they suspect a healthy program at all. Kept
verdicts (`--resume FILE`) are not made again; `--report FILE` prints the table.
"""

from __future__ import annotations

import argparse
import importlib
import json
import pkgutil
import tempfile
from collections import Counter, defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

from benchmarks.programs import Program, healthy
from benchmarks.tables import rate
from doctor import diagnosis, probes
from doctor.config import Settings
from doctor.evidence.batch_log import BatchLog
from doctor.evidence.module_tree import ModuleTree
from doctor.evidence.recording import Recording
from doctor.findings import Finding, Severity
from doctor.progress import SilentProgress
from doctor.subjects.program import ScriptProgram
from doctor.trials import treatments as package
from doctor.trials.treatments import (
    BypassActivation,
    Experiment,
    InsertActivation,
    Reinitialise,
    ReplaceActivation,
    ScaleLearningRate,
    SearchLearningRate,
    ShuffleData,
    StandardiseInputs,
    Treatment,
)
from doctor.trials.trial import Trials

_RATES = (0.01, 0.03, 0.1, 0.3, 3.0, 10.0, 30.0, 100.0)
_SECONDS = 1e6  # the budget of a diagnosis would leave later treatments untried


@dataclass(frozen=True)
class Trial:
    """One treatment on one healthy program, and what the trial said."""

    program: str
    treatment: str
    described: str
    verdict: str
    size: float | None = None
    note: str | None = None


def needless(recording: Recording) -> Iterator[Treatment]:
    """Treatments that fit what was observed, each with honest arguments."""
    probes.load()
    found = probes.gather([recording], [ModuleTree, BatchLog])
    yield from _without_arguments()
    yield from (ScaleLearningRate(factor=factor) for factor in (0.1, 10.0))
    yield SearchLearningRate(factors=_RATES)
    batches, tree = found[BatchLog], found[ModuleTree]
    if isinstance(batches, BatchLog):
        for stats in batches.inputs[:1]:
            std = tuple(value if value > 0 else 1.0 for value in stats.std)
            yield StandardiseInputs(mean=stats.mean, std=std, axis=stats.axis, root=stats.root)
        yield from (
            ShuffleData(loader=loader.index) for loader in batches.loaders if loader.index and loader.used_in_training
        )
    if isinstance(tree, ModuleTree):
        weighted = tuple(m.path for m in tree.modules if m.kind in ("Linear", "Conv1d", "Conv2d") and m.training_calls)
        if weighted:
            yield Reinitialise(modules=weighted)
            yield InsertActivation(modules=weighted[:1])
        kinds = {m.kind for m in tree.modules}
        for kind, function in (("ReLU", "relu"), ("Tanh", "tanh"), ("Sigmoid", "sigmoid"), ("GELU", "gelu")):
            if kind in kinds:
                yield BypassActivation(function=function)
                yield ReplaceActivation(function=function, replacement="leaky_relu")


def _without_arguments() -> Iterator[Treatment]:
    """One of each kind of treatment (no experiment) that needs no argument, of every module there is."""
    for module in pkgutil.iter_modules(package.__path__):
        importlib.import_module(f"{package.__name__}.{module.name}")
    waiting, seen = list(Treatment.__subclasses__()), set()
    while waiting:
        kind = waiting.pop(0)
        waiting += kind.__subclasses__()
        if kind in seen or issubclass(kind, Experiment) or not kind.kind:
            continue
        seen.add(kind)
        differential = kind.__module__.endswith(".differential")
        if not differential and not any(field.is_required() for field in kind.model_fields.values()):
            yield kind()


def trials(program: Program, settings: Settings) -> Iterator[Trial]:
    """Judge every needless treatment of one program, each by itself."""
    with tempfile.TemporaryDirectory() as folder:
        subject = ScriptProgram(str(program.path), folder=Path(folder))
        recording = diagnosis.observe(subject, settings, SilentProgress())
        with subject.prepared(recording) as prepared:
            for treatment in needless(recording):
                court = Trials(prepared, recording, settings, SilentProgress(), lambda _: [])
                suspicion = Finding(
                    message="hand-made", rule="XXX000", name="hand-made", severity=Severity.WARNING, treatment=treatment
                )
                judged = court.judge([suspicion])[0]
                effect = judged.effect
                yield Trial(
                    program.name,
                    treatment.kind,
                    treatment.describe(),
                    str(judged.verdict),
                    effect.size if effect else None,
                    effect.note if effect else None,
                )


def table(made: Sequence[Trial]) -> str:
    """Treatment by treatment, then all, then each false confirmation."""
    counts: dict[str, Counter[str]] = defaultdict(Counter)
    for trial in made:
        counts[trial.treatment][trial.verdict] += 1
    lines = [f"{'treatment':<30} {'tried':>6} {'refuted':>8} {'inconclusive':>13}  confirmed"]
    everything: Counter[str] = sum(counts.values(), Counter())
    for kind, count in [*sorted(counts.items()), ("all", everything)]:
        total = count.total()
        lines.append(
            f"{kind:<30} {total:>6} {count['refuted']:>8} {count['inconclusive'] + count['untested']:>13}  "
            f"{rate(count['confirmed'], total)}"
        )
    lines += ["", "confirmed without need:"]
    lines += [
        f"  {trial.program:<36} {trial.described:<60} gain {trial.size if trial.size is not None else 0:.2f}"
        for trial in made
        if trial.verdict == "confirmed"
    ]
    return "\n".join(lines)


def load(path: Path) -> list[Trial]:
    """Kept trials."""
    return [Trial(**json.loads(line)) for line in path.read_text().splitlines() if line]


def main() -> None:
    """Run what is missing, print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("names", nargs="*")
    parser.add_argument("--seeds", type=int, default=2)
    parser.add_argument("--steps", type=int, default=80)
    parser.add_argument("--jobs", type=int, default=1)
    parser.add_argument("--resume", type=Path, metavar="FILE", help="trials are kept there by whole programs")
    parser.add_argument("--report", type=Path, metavar="FILE")
    options = parser.parse_args()
    if options.report:
        print(table(load(options.report)))
        return
    settings = Settings(
        steps=options.steps, confirm_seeds=options.seeds, jobs=options.jobs, trial_budget_s=_SECONDS, timeout_s=120
    )
    made = load(options.resume) if options.resume and options.resume.exists() else []
    done = {trial.program for trial in made}
    for program in healthy(options.names):
        if program.name in done:
            continue
        new = []
        for trial in trials(program, settings):
            new.append(trial)
            size = "" if trial.size is None else f"{trial.size:+.2f}"
            print(f"{trial.program:<36} {trial.described:<60} {trial.verdict:<13} {size}", flush=True)
        made += new
        if options.resume:
            with options.resume.open("a") as file:
                file.writelines(json.dumps(asdict(trial)) + "\n" for trial in new)
    print("\n" + table(made))


if __name__ == "__main__":
    main()
