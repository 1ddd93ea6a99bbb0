"""The command line. Nothing heavy is imported before a command needs it."""

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from doctor import __version__, output
from doctor.errors import DoctorError
from doctor.option_sections import Sectioned
from doctor.reports import FORMATS

if TYPE_CHECKING:
    from doctor.config import Settings
    from doctor.findings import Severity
    from doctor.registry import Rule
    from doctor.report import Report
    from doctor.subjects.dataset import DataOptions


class _Doctor(click.Group):
    """Turns our errors into one line and exit status 2."""

    def invoke(self, ctx: click.Context) -> Any:
        try:
            return super().invoke(ctx)
        except DoctorError as failure:
            click.echo(f"error: {failure}", err=True)
            raise click.exceptions.Exit(2) from (failure if "--debug" in sys.argv else None)
        except (click.ClickException, click.exceptions.Exit, click.Abort):
            raise
        except KeyboardInterrupt:
            click.echo("interrupted", err=True)
            raise click.exceptions.Exit(130) from None
        except Exception as failure:
            if "--debug" in sys.argv:
                raise
            import traceback

            at = traceback.extract_tb(failure.__traceback__)[-1]
            where = f"{type(failure).__name__}: {failure}, {Path(at.filename).name}:{at.lineno}"
            click.echo(
                f"error: internal error ({where}); run with --debug for the traceback, and please report", err=True
            )
            raise click.exceptions.Exit(2) from None


def _split(values: tuple[str, ...]) -> tuple[str, ...]:
    return tuple(part.strip() for value in values for part in value.split(",") if part.strip())


@click.group(cls=_Doctor, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(__version__, prog_name="doctor")
def main() -> None:
    """Find out why a PyTorch program does not train, and prove it.

    \b
    doctor diagnose train.py                  run the script as it is, and examine what it does
    doctor diagnose train.py -- --epochs 3    with its own arguments
    doctor diagnose data.parquet --target y   examine data
    doctor diagnose data.py:dataset           examine a torch data set or loader
    doctor gate model.onnx                    judge an exported artifact before it ships
    doctor rules                              what is looked for
    doctor explain OPT003                     one rule, in full
    """


@main.command(cls=Sectioned, context_settings={"ignore_unknown_options": False})
@click.argument("target", required=False, metavar="TARGET")
@click.argument("arguments", nargs=-1, type=click.UNPROCESSED)
@click.option("--target", "target_column", metavar="COLUMN", help="The column (or key) to be predicted.")
@click.option("--train", multiple=True, metavar="PATH", help="The training split: file, folder or pattern.")
@click.option("--valid", multiple=True, metavar="PATH", help="The validation split.")
@click.option("--test", multiple=True, metavar="PATH", help="The test split.")
@click.option("--split-column", metavar="COLUMN", help="The column that names each row's split.")
@click.option("--sample", type=click.IntRange(1), metavar="ROWS", help="Look at so many rows (default: all).")
@click.option(
    "--memory-limit", metavar="SIZE", help="What the engine of tables may use, as 2GB; the rest goes to disk."
)
@click.option("--tokenizer", metavar="FOLDER", help="The tokenizer by which texts are counted.")
@click.option("--max-length", type=click.IntRange(1), metavar="TOKENS", help="The longest input of the model.")
@click.option(
    "--rows",
    "rows_path",
    type=click.Path(path_type=Path),
    help="Write every row or sample found there, as Parquet (a report lists 20).",
)
@click.option("--steps", type=click.IntRange(1), help="Optimizer steps to observe (default 80).")
@click.option("--timeout", "timeout_s", type=float, metavar="SECONDS", help="Limit of each run (default 600).")
@click.option("--select", multiple=True, metavar="RULES", help="Only these: codes, prefixes, names or families.")
@click.option("--ignore", multiple=True, metavar="RULES", help="Not these.")
@click.option(
    "--set", "overrides", multiple=True, metavar="RULE.KEY=VALUE", help="Change a threshold: OPT003.min_steps=5."
)
@click.option("--no-confirm", is_flag=True, help="Skip the trials.")
@click.option("--confirm-seeds", type=click.IntRange(1), help="Seeds of each trial (default 2).")
@click.option("--confirm-steps", type=click.IntRange(4), help="Steps of each arm (default: as many as observed).")
@click.option("--jobs", type=click.IntRange(1), help="Arms at once (default: number of cores).")
@click.option("--format", "format_", type=click.Choice(FORMATS), help="Form of the report.")
@click.option(
    "--output",
    multiple=True,
    metavar="[FORMAT=]PATH",
    help="Write the report there; form by suffix, .html with pictures. May be repeated.",
)
@click.option(
    "--diff",
    is_flag=True,
    help="Print the cure as a unified diff, which was itself tried; the report goes to stderr.",
)
@click.option("--fix", is_flag=True, help="Show the patches that proved good, ask, and apply them.")
@click.option("--yes", is_flag=True, help="With --fix: apply without asking.")
@click.option("--record", type=click.Path(path_type=Path), help="Save the evidence, to be diagnosed later.")
@click.option("--fail-on", type=click.Choice(["error", "warning", "info", "never"]), help="Level that exits 1.")
@click.option("--exit-zero", is_flag=True, help="Exit 0 whatever is found.")
@click.option("--require", multiple=True, metavar="RULES", help="Fail when one of these rules could not look.")
@click.option("--baseline", type=click.Path(), metavar="FILE", help="Findings that were accepted, and until when.")
@click.option("--write-baseline", type=click.Path(path_type=Path), help="Accept what fails now, and write it there.")
@click.option("--reason", metavar="TEXT", help="With --write-baseline: why it is accepted.")
@click.option("--expires", type=click.DateTime(["%Y-%m-%d"]), help="With --write-baseline: its last day.")
@click.option("--config", type=click.Path(path_type=Path), help="Configuration file.")
@click.option("--isolated", is_flag=True, help="Ignore configuration files.")
@click.option("--show-settings", is_flag=True, help="Print the settings in force, and stop.")
@click.option("--color", type=click.Choice(["auto", "always", "never"]), default="auto", help="Colour (default auto).")
@click.option("--no-progress", is_flag=True, help="No progress bar.")
@click.option("-v", "--verbose", is_flag=True, help="Show refuted and minor findings, and skipped rules, in full.")
@click.option("-q", "--quiet", is_flag=True, help="Print nothing but the files asked for.")
@click.option("--debug", is_flag=True, help="Show tracebacks of the doctor's own.")
def diagnose(target: str | None, arguments: tuple[str, ...], **options: Any) -> None:
    """Examine TARGET: a training script, module.py:case, a recording, data, or an exported artifact (see doctor gate).

    \b
    doctor diagnose train.py -- --epochs 3            a script, with its own arguments
    doctor diagnose data.parquet --target price       a table (CSV, Parquet, Arrow, JSONL)
    doctor diagnose train.csv test.csv --target y     splits, told by their names
    doctor diagnose photos/ --output report.html      images, a folder a class; a page
    doctor diagnose "shards/train-*.tar"              images or recordings in archives
    doctor diagnose corpus/                           recordings with a manifest
    doctor diagnose chats.jsonl --tokenizer model/    conversations, instructions, texts
    doctor diagnose --train corpus.txt                plain text, one a line
    doctor diagnose data.py:dataset                   a torch data set or loader

    A script runs unchanged in a child process until the step budget is spent; what it writes goes to a scratch folder.
    Each finding with a cure is then put on trial: the same program with and without the cure. Where the cure is an
    edit, the edited script is tried, too: --diff prints the edits, --fix applies those that proved good. A file outside
    the working tree, or changed since, is never written.

    Data is only read: every row and sample once, archives in place. Further files follow TARGET or are given as --train,
    --valid and --test; splits are else told by the names of files and folders. Without --target, what a table's columns
    say about each other is looked at, and nothing that needs to know what is predicted.

    Exit status: 0 nothing found at the failing level, 1 findings, 2 the doctor could not do its work.
    """
    from doctor.progress import BarProgress, SilentProgress

    data = _data_options(target, options)
    target = target or next(path for name in ("train", "valid", "test") for path in options[name])
    _consistent(target, options)
    if options["rows_path"] and data is None:
        raise click.UsageError("--rows goes with data: a program has no rows")
    at_gate = (data is None or not data.given) and _is_artifact(target)
    settings = _settings(target, options, at_gate)
    if options["show_settings"]:
        click.echo(settings.model_dump_json(by_alias=True, indent=2))
        return
    if at_gate:
        _judge(target, settings, options)
    show = not options["no_progress"] and not options["quiet"] and sys.stderr.isatty()
    progress = BarProgress() if show else SilentProgress()
    try:
        if data is not None:
            from doctor.dataset_diagnosis import diagnose_paths

            paths = () if target in (*data.train, *data.valid, *data.test) else (target, *arguments)
            drawn = output.wants("html", options["output"], options["format_"])
            report = diagnose_paths(paths, data, settings, progress, options["rows_path"], drawn)
        else:
            from doctor.diagnosis import diagnose_target

            report = diagnose_target(target, arguments, settings, progress=progress, record=options["record"])
    finally:
        progress.finish()
    report = _accept(report, settings, options)
    _write(report, options, settings.failing_level)
    if options["diff"] or options["fix"]:
        _patch(report, options)
    raise click.exceptions.Exit(_status(report, settings, options))


def _is_artifact(target: str) -> bool:
    if target.partition(":")[0].endswith((".py", ".evidence")):
        return False
    from doctor.subjects.artifact import is_artifact
    from doctor.subjects.dataset import form_of, is_data

    return is_artifact(target) and not (form_of(target) == "pt" and is_data(target))


@main.command()
@click.argument("artifact")
@click.option("--reference", metavar="MODULE:FACTORY", help="What makes the model: net.py:build, or package.net:build.")
@click.option(
    "--inputs", type=click.Path(), help="Sample inputs (npz, pt, json, parquet) for the comparison of outputs."
)
@click.option("--opset", type=click.IntRange(1), help="Newest ONNX opset that the target runtime knows.")
@click.option("--trust", is_flag=True, help="Also run what was not judged safe.")
@click.option(
    "--attest", type=click.Path(path_type=Path), help="Write a certificate: hashes, what was checked, verdict."
)
@click.option(
    "--verify", type=click.Path(path_type=Path), help="Judge nothing: hold ARTIFACT against this certificate."
)
def gate(artifact: str, **options: Any) -> None:
    """Judge ARTIFACT before it ships: a file of weights, an exported program, or a Hugging Face folder.

    The format is recognised by content: .pt/.pth, .safetensors (also sharded, by its index), TorchScript, torch.export
    (.pt2), ONNX. The file is read, and nothing in it is unpickled or executed. With --reference, keys, shapes and values
    are held against the model of the training code, which is built in a child process.

    Exit status: 0 nothing found at the failing level, 1 findings, 2 the doctor could not do its work.
    """
    if options["verify"]:
        from doctor import certificates

        against = certificates.verification(Path(artifact), options["verify"], _split(options["require"]))
        click.echo(output.encodable("\n".join([against.headline, *(f"  {line}" for line in against.lines)])))
        raise click.exceptions.Exit(0 if against.holds else 1)
    settings = _settings(artifact, options, at_gate=True)
    if options["show_settings"]:
        click.echo(settings.model_dump_json(by_alias=True, indent=2))
        return
    _judge(artifact, settings, options)


def _judge(target: str, settings: Settings, options: dict[str, Any]) -> None:
    """Judge an artifact, write the report and the certificate, and exit."""
    os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")  # NumPy's; weights are read by threads of our own
    from doctor import certificates
    from doctor.gate import gate as judge

    given = {name: options[name] for name in ("reference", "inputs", "opset", "trust") if options.get(name)}
    if options.get("timeout_s"):
        given["timeout_s"] = options["timeout_s"]
    if settings.gate.tolerance:
        given["tolerance"] = tuple(settings.gate.tolerance.items())
    certificate = certificates.Writer(Path(target), options["attest"]) if options.get("attest") else None
    report = _accept(judge(target, settings, **given), settings, options)
    _write(report, {"diff": False, **options}, settings.failing_level)
    if certificate:
        required = (*settings.gate.require, *_split(options["require"]))
        click.echo(certificate.write(report, settings, _not_looked(report, required), given), err=True)
    raise click.exceptions.Exit(_status(report, settings, options, settings.gate.require))


_OF_PROGRAMS = frozenset(  # the other options of diagnose mean the same for an artifact
    [
        "target",
        "arguments",
        "steps",
        "no_confirm",
        "confirm_seeds",
        "confirm_steps",
        "jobs",
        "diff",
        "fix",
        "yes",
        "record",
        "no_progress",
        # and those of data sets mean nothing there
        "target_column",
        "train",
        "valid",
        "test",
        "split_column",
        "sample",
        "memory_limit",
        "tokenizer",
        "max_length",
        "rows_path",
    ]
)
gate.params += [option for option in diagnose.params if option.name not in _OF_PROGRAMS]


def _data_options(target: str | None, options: dict[str, Any]) -> DataOptions | None:
    """What was said about a data set; None when the target is none."""
    from doctor.subjects.dataset import DataOptions, is_data

    names = ("train", "valid", "test", "split_column", "sample", "memory_limit", "tokenizer", "max_length")
    data = DataOptions(target=options["target_column"], **{name: options[name] for name in names})
    if target is None and not (data.train or data.valid or data.test):
        raise click.UsageError("Missing argument 'TARGET'.")
    return data if data.given or (target is not None and is_data(target)) else None


def _consistent(target: str, options: dict[str, Any]) -> None:
    if options["yes"] and not options["fix"]:
        raise click.UsageError("--yes goes with --fix")
    if options["fix"] and (options["no_confirm"] or target.endswith(".evidence")):
        raise click.UsageError("--fix applies what a trial has proven: it needs the program, and no --no-confirm")
    if options["diff"] or options["fix"]:
        from doctor.patches import making

        if not making.available():
            raise DoctorError("patches need libcst", "pip install libcst")


def _patch(report: Report, options: dict[str, Any]) -> None:
    """Show the patches; with --fix, apply those that proved good."""
    from doctor.patches import writing
    from doctor.patches.making import shown
    from doctor.reports import diff

    colour = options["color"] == "always" or (options["color"] == "auto" and _colour_wanted())
    _show_diff(diff.render(report, colour=colour))
    proven = [finding.patch for finding in diff.patched(report) if finding.patch is not None]
    if not proven:
        why = "no patch proved good" if any(f.patch for f in report.active) else "no patch is known"
        click.echo(f"{why}: nothing to apply" if options["fix"] else "", err=True, nl=options["fix"])
        return
    if not options["fix"]:
        return
    if not options["yes"]:
        if not sys.stdin.isatty():
            click.echo("not applied: nobody to ask; --yes applies without asking", err=True)
            return
        if not click.confirm(f"apply {len(proven)} patch{'es' * (len(proven) > 1)}?", err=True):
            return
    for path in writing.write(proven):
        click.echo(f"patched {shown(path)}", err=True)


def _show_diff(text: str) -> None:
    """Byte for byte: a diff of a file with CRLF keeps its line ends on every system."""
    sys.stdout.flush()
    sys.stdout.buffer.write(text.encode("utf-8", "surrogateescape"))
    sys.stdout.buffer.flush()


def _settings(target: str, options: dict[str, Any], at_gate: bool = False) -> Settings:
    from doctor import config

    if options["write_baseline"] and not options["reason"]:
        raise click.UsageError('--write-baseline goes with --reason "why this is accepted"')
    if (options["reason"] or options["expires"]) and not options["write_baseline"]:
        raise click.UsageError("--reason and --expires go with --write-baseline")
    start = Path(target.partition(":")[0]).parent
    settings = config.load(start if start.exists() else Path(), options["config"], options["isolated"])
    settings = config.at_gate(settings) if at_gate else settings
    if options["write_baseline"]:  # what it accepts already is looked up in the file itself
        settings = settings.model_copy(update={"baseline": None})
    ignore = {**settings.ignore, **dict.fromkeys(_split(options["ignore"]), "command line")}
    rules = {code: dict(values) for code, values in settings.rules.items()}
    for text in options["overrides"]:
        name, equals, value = text.partition("=")
        rule, dot, key = name.partition(".")
        if not (equals and dot and rule and key):
            raise DoctorError(f'--set "{text}" is not RULE.KEY=VALUE', "for example --set OPT003.min_steps=5")
        rules.setdefault(rule, {})[key] = value
    return config.changed(
        settings,
        select=_split(options["select"]) or None,
        ignore=ignore,
        rules=rules,
        steps=options.get("steps"),
        timeout_s=options["timeout_s"],
        confirm=False if options.get("no_confirm") else None,
        confirm_seeds=options.get("confirm_seeds"),
        confirm_steps=options.get("confirm_steps"),
        jobs=options.get("jobs"),
        fail_on=options["fail_on"],
        baseline=None if options["write_baseline"] else options["baseline"],
    )


def _accept(report: Report, settings: Settings, options: dict[str, Any]) -> Report:
    """With --write-baseline, the report after what fails was accepted; else as it is."""
    path: Path | None = options["write_baseline"]
    if path is None:
        return report
    from doctor import baseline, suppressions

    known = baseline.load(path) if path.exists() else baseline.Baseline()
    until = options["expires"].date() if options["expires"] else None
    known = baseline.renewed(known, report, settings.failing_level, options["reason"], until)
    baseline.save(known, path)
    click.echo(f"{path}: {len(known.accepted)} accepted", err=True)
    return suppressions.with_baseline(report, known)


def _write(report: Report, options: dict[str, Any], failing: Severity | None) -> None:
    """The report to the files and the stream that the options ask for, and to GitHub's step summary."""
    from doctor import reports

    formats = {output.to_file(report, text, options["format_"], failing) for text in options["output"]}
    if not (options["quiet"] or options["format_"] in formats):  # what went to a file is not told twice
        format_ = options["format_"] or "text"
        formats.add(format_)
        colour = options["color"] == "always" or (options["color"] == "auto" and _colour_wanted())
        text = reports.render(report, format_, colour=colour, verbose=options["verbose"], failing=failing)
        if text.strip():
            click.echo(output.encodable(text.rstrip("\n")), color=colour, err=options["diff"])
    if "github" in formats:
        output.to_step_summary(report)


def _colour_wanted() -> bool:
    if os.environ.get("NO_COLOR"):
        return False
    return bool(os.environ.get("FORCE_COLOR")) or sys.stdout.isatty()


def _status(report: Report, settings: Settings, options: dict[str, Any], demanded: tuple[str, ...] = ()) -> int:
    failed = report.fails(settings.failing_level)
    for line in _not_looked(report, (*demanded, *_split(options["require"]))):
        click.echo(line, err=True)
        failed = True
    return 1 if failed and not options["exit_zero"] else 0


def _not_looked(report: Report, required: tuple[str, ...]) -> list[str]:
    from doctor import requirement

    skipped = {skip.rule: skip.reason for skip in report.skipped}
    looked = {*report.fine, *(finding.rule for finding in report.findings)}
    return requirement.not_looked(required, looked, skipped)


@main.command()
@click.option("--format", "format_", type=click.Choice(["text", "json"]), default="text")
@click.option("--matrix", is_flag=True, help="The FAQ's questions, and the rules that answer each.")
def rules(format_: str, matrix: bool) -> None:
    """List the rules."""
    from doctor import catalogue, registry

    known = registry.load()
    for line in registry.warnings:
        click.echo(f"warning: {line}", err=True)
    if matrix:
        click.echo(catalogue.matrix(known))
    else:
        click.echo(catalogue.as_json(known) if format_ == "json" else catalogue.table(known))


@main.command()
@click.argument("rule")
@click.option("--format", "format_", type=click.Choice(["text", "json", "markdown"]), default="text")
def explain(rule: str, format_: str) -> None:
    """Explain RULE (a code or a name): what it measures, why it hurts, how to mend it, when it is right."""
    from doctor import catalogue

    found = _rule(rule)
    click.echo(catalogue.rule_json(found) if format_ == "json" else catalogue.page(found, format_ == "markdown"))


def _rule(code_or_name: str) -> Rule:
    from doctor import registry

    try:
        return registry.rule(code_or_name, registry.load(mentioning=code_or_name))
    except DoctorError:  # written in small letters, or misspelt: the nearest one is told
        return registry.rule(code_or_name, registry.load())


@main.command()
def schema() -> None:
    """Print the JSON schema of `--format json`."""
    from doctor.reports import json as json_report

    click.echo(json_report.schema())


if __name__ == "__main__":
    main()
