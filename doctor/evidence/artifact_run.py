"""What an artifact did when it was run: alone, and beside its reference."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, fields
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

from doctor.errors import DoctorError, Unavailable
from doctor.evidence.artifact_contents import ArtifactContents
from doctor.evidence.artifact_source import ArtifactSource
from doctor.evidence.base import Evidence
from doctor.evidence.io_contract import IOContract, Port
from doctor.evidence.pickle_manifest import PickleManifest
from doctor.evidence.reference_model import ReferenceModel
from doctor.evidence.reference_process import ReferenceProcess
from doctor.probes import probe

if TYPE_CHECKING:
    from doctor.parity.launch import ModelProcess

_T = TypeVar("_T")

_UNSAFE = ("path-traversal",)
_BROKEN = ("truncated-file", "corrupt-file", "malformed-header", "missing-shard")
_RUN_ALONE = ("onnx", "torchscript", "pt2")
_PICKLED = ("torch-zip", "torch-legacy")
_WEIGHTS = ("safetensors", "sharded", "huggingface", "torch-zip", "torch-legacy", "torch-tar", "pickle")


@dataclass(frozen=True)
class OutputDifference:
    """One output against the reference's. `largest` and `rms` are on the scale of the reference's output (its standard
    deviation); for whole numbers (`whole`) both are the share that is unequal. `broken` elements are finite on one
    side only. `decisions` is the share of rows with the same largest entry.
    """

    output: str = ""
    artifact_output: str = ""
    shape: tuple[int, ...] = ()
    artifact_shape: tuple[int, ...] = ()
    max_abs: float = 0.0
    max_rel: float = 0.0
    scale: float = 1.0
    largest: float = 0.0
    rms: float = 0.0
    broken: int = 0
    whole: bool = False
    decisions: float | None = None

    @property
    def same_shape(self) -> bool:
        """Whether both sides have one shape."""
        return self.shape == self.artifact_shape


@dataclass(frozen=True)
class Outcome:
    """Both sides on one input: the differences, or how the artifact failed (`error`).

    `size` is the batch or length, `dimension` its name, `label` what was changed; `declared` says that the artifact
    itself calls the dimension free. `path` and `line` are where the reference decided otherwise than on the sample.
    `taken` and `noticed` say whether the artifact has the changed input, and whether its outputs moved.
    """

    differences: tuple[OutputDifference, ...] = ()
    within: bool | None = None
    error: str | None = None
    reference_fails: bool = False
    size: int | None = None
    dimension: str | None = None
    declared: bool = False
    label: str = ""
    path: str | None = None
    line: int | None = None
    input: str = ""
    taken: bool = True
    noticed: bool = True
    plain: bool = False
    description: str = ""
    shapes: tuple[tuple[str, tuple[int, ...]], ...] = ()

    @property
    def worst(self) -> OutputDifference | None:
        """The output that lies furthest apart."""
        key = lambda each: (not each.same_shape, each.broken > 0, each.rms)  # noqa: E731
        return max(self.differences, key=key, default=None)


@dataclass(frozen=True)
class Tried:
    """A hypothesis on why the outputs differ, and whether the difference was then gone."""

    kind: str
    description: str
    rms: float | None
    holds: bool
    names: tuple[str, ...] = ()


@dataclass(frozen=True)
class WeightCheck:
    """The artifact's weights against the reference's, by name; `explains` says that the reference with the artifact's
    weights gives the artifact's outputs; `constants` that only buffers differ which are no running statistics.
    """

    compared: int = 0
    differing: int = 0
    on_grid: int = 0
    rms: float = 0.0
    explains: bool | None = None
    exchanged: tuple[str, str] | None = None
    differing_names: tuple[str, ...] = ()
    constants: bool = False


@dataclass(frozen=True)
class RunTolerance:
    """What passes, by the lowest precision in the artifact: the largest error and the root mean square, on the scale
    of the output.
    """

    precision: str = "float32"
    largest: float = 1e-3
    rms: float = 1e-4
    unequal: float = 0.005


@dataclass(frozen=True)
class ReferenceFacts:
    """The reference: whether its weights are settled (the same at every build), and forward's parameters."""

    settled: bool = True
    names: tuple[str, ...] = ()
    required: tuple[str, ...] = ()
    file: str = ""


@dataclass(frozen=True)
class ArtifactRun(Evidence):
    """The artifact at work.

    `given` are the sample's inputs; `origin` says where they come from: `file`, `json` (which knows no dtypes),
    `reference` (its `sample_inputs()`) or `generated` from the declared signature; `given_by_name` that their names
    mean something. `renamed` maps inputs of the artifact to sample inputs of another name, `cast` those whose dtype is
    not the sample's to both dtypes. `whole` says whether weights load strictly. `stopped` is why the run ended early.
    """

    backend: str = ""
    named: bool = False
    whole: bool | None = None
    load_error: str | None = None
    artifact_error: str | None = None
    inputs_error: str | None = None
    stopped: str | None = None
    reference: ReferenceFacts | None = None
    reference_error: str | None = None
    reference_asked: bool = False
    given: tuple[Port, ...] = ()
    origin: str = "generated"
    given_by_name: bool = True
    renamed: tuple[tuple[str, str], ...] = ()
    cast: tuple[tuple[str, tuple[str, str]], ...] = ()
    missing: tuple[str, ...] = ()
    surplus: tuple[str, ...] = ()
    batch: int | None = None
    tolerance: RunTolerance = RunTolerance()
    outputs: tuple[Port, ...] = ()
    expected: tuple[Port, ...] = ()
    sample: Outcome | None = None
    names_agree: bool = False
    transplanted: bool = False
    broken: tuple[tuple[str, int], ...] = ()
    repeats: tuple[Outcome, ...] = ()
    reference_repeat: Outcome | None = None
    batches: tuple[Outcome, ...] = ()
    alone: Outcome | None = None
    reference_alone: Outcome | None = None
    changed: tuple[Outcome, ...] = ()
    lengths: tuple[Outcome, ...] = ()
    branches: tuple[Outcome, ...] = ()
    related: Outcome | None = None
    hypotheses: tuple[Tried, ...] = ()
    weights: WeightCheck | None = None

    @property
    def sampled(self) -> bool:
        """Whether the inputs are somebody's own, and not made up from the declared signature."""
        return self.origin != "generated"

    @property
    def unsteady(self) -> Outcome | None:
        """The repetition whose outputs differ from the first's, if any."""
        return next((run for run in self.repeats if run.worst is not None and run.worst.rms > 1e-6), None)


@dataclass(frozen=True)
class ParityRun(Evidence):
    """The artifact held against its reference on the sample: what is only to be had with both."""

    run: ArtifactRun
    sample: Outcome

    @property
    def faithful(self) -> bool:
        """Whether all outputs are within the tolerance, on the sample or on what the sample stands for."""
        return bool(self.sample.within) or bool(self.run.related and self.run.related.within)

    @property
    def cause(self) -> Tried | None:
        """The hypothesis that makes the difference vanish."""
        return next((tried for tried in self.run.hypotheses if tried.holds), None)


@probe
def artifact_run(
    source: ArtifactSource,
    contents: ArtifactContents,
    manifest: PickleManifest,
    contract: IOContract | None,
    built: ReferenceProcess | None,
    model: ReferenceModel | None,
) -> ArtifactRun:
    """Run the artifact in a child process, once it was judged safe (or on trust)."""
    kind, path = _program(source)
    if kind not in _RUN_ALONE and kind not in _WEIGHTS:
        raise Unavailable(f"a file of the format {kind} is not run")
    if kind in _WEIGHTS and not source.reference:
        raise Unavailable("weights alone are not run; give --reference module:factory")
    # Of a whole module of the reference's own classes only the numbers are taken: nothing is unpickled.
    own = model.own_classes if model is not None and kind in _PICKLED else frozenset[str]()
    if (contents.labelled(*_UNSAFE) or not manifest.safe(own)) and not source.trust:
        raise Unavailable("the artifact was not judged safe, and is not run; --trust runs it all the same")
    if contents.labelled(*_BROKEN):
        raise Unavailable("the artifact is damaged, and is not run")
    job = {
        "path": str(path),
        "kind": kind,
        "inputs": str(Path(source.inputs).resolve()) if source.inputs else None,
        "trust": source.trust,
        "inputs_declared": [_plain(port) for port in contract.inputs] if contract else [],
        "quantised": sorted({note.detail for note in contract.of("quantised")}) if contract else [],
        "state": _state(source, contents) if kind in _PICKLED else [],
        "tolerance": dict(getattr(source, "tolerance", None) or {}),
    }
    # The process that built the reference goes on, save where the artifact shall not find what that code left there.
    fits = built is not None and model is not None and not source.trust and built.process.clean
    ready = built.process if built is not None and fits else None
    return from_events(
        _events(source, job, ready), named=bool(contract and contract.named), reference_asked=bool(source.reference)
    )


def _program(source: ArtifactSource) -> tuple[str, Path]:
    """The format and place of what is run: a folder without safetensors may hold one program, or one file of weights."""
    root = Path(source.root)
    if source.format != "huggingface":
        return source.format, root / source.files[0].path
    if not any(file.format in ("safetensors", "sharded") for file in source.files):
        for formats in (_RUN_ALONE, _PICKLED):
            found = [file for file in source.files if file.format in formats]
            if len(found) == 1:
                return found[0].format, root / found[0].path
    return source.format, root


def _state(source: ArtifactSource, contents: ArtifactContents) -> list[dict[str, Any]]:
    """Where the numbers of every weight lie; empty where not all can be read."""
    if any(tensor.unread for tensor in contents.weights):
        return []
    return [
        {
            "name": tensor.name,
            "dtype": tensor.dtype,
            "shape": tensor.shape,
            "strides": tensor.strides,
            "file": str(Path(source.root, tensor.file)),
            "offset": tensor.offset,
            "nbytes": tensor.nbytes,
        }
        for tensor in contents.weights
    ]


def _events(source: ArtifactSource, job: dict[str, Any], ready: ModelProcess | None) -> list[dict[str, Any]]:
    from doctor.parity.launch import ModelProcess

    try:
        process = ready or ModelProcess(source.reference, source.timeout_s, source.memory_mb, bare=True)
    except DoctorError as failure:
        raise Unavailable(str(failure)) from None
    try:
        return process.run(job)
    finally:
        process.close()


@probe
def parity_run(run: ArtifactRun) -> ParityRun:
    """The part of the run that compares with the reference; raises Unavailable with what is lacking."""
    if not run.reference_asked:
        raise Unavailable("no reference model; give --reference module:factory")
    if run.reference is None:
        raise Unavailable(f"no reference model: {run.reference_error or run.stopped}")
    for obstacle in (run.inputs_error, run.artifact_error and "the artifact fails on the sample inputs"):
        if obstacle:
            raise Unavailable(obstacle)
    if run.load_error:
        raise Unavailable(f"the artifact cannot be opened ({run.load_error})")
    if run.sample is None or run.sample.within is None:
        why = run.stopped or (run.sample.error if run.sample else None) or "there was nothing to compare"
        raise Unavailable(why)
    if not run.reference.settled and not run.transplanted:
        raise Unavailable("the reference has other weights at every build: it is no trained model to compare with")
    return ParityRun(run, run.sample)


def from_events(
    events: Iterable[Mapping[str, Any]], *, named: bool = False, reference_asked: bool = False
) -> ArtifactRun:
    """The record of what the child process wrote."""
    known: dict[str, Any] = {"named": named, "reference_asked": reference_asked}
    lists: dict[str, list[Outcome]] = {"repeats": [], "batches": [], "changed": [], "lengths": [], "branches": []}
    several = {"repeat": "repeats", "batch": "batches", "changed": "changed", "length": "lengths", "branch": "branches"}
    hypotheses: list[Tried] = []
    for event in events:
        section = event["section"]
        if section in several:
            lists[several[section]].append(_outcome(event))
        elif section == "hypothesis":
            hypotheses.append(_make(Tried, event))
        elif section == "reference":
            known |= (
                {"reference_error": event["error"]} if "error" in event else {"reference": _make(ReferenceFacts, event)}
            )
        elif section == "load":
            known |= {
                "load_error": event.get("error"),
                "backend": event.get("backend", ""),
                "whole": event.get("whole"),
            }
        elif section == "given":
            known |= {"given": _ports(event["ports"]), "origin": event["origin"], "given_by_name": event["named"]}
        elif section == "alignment":
            known |= {
                "renamed": tuple(event["renamed"].items()),
                "cast": tuple((name, (pair[0], pair[1])) for name, pair in event["cast"].items()),
                "missing": tuple(event["missing"]),
                "surplus": tuple(event["surplus"]),
                "batch": event["batch"],
            }
        elif section == "precision":
            known["tolerance"] = _make(RunTolerance, event)
        elif section == "sample":
            known |= _sample(event)
        elif section == "transplant" and event["possible"]:
            known |= {"transplanted": True, "sample": _outcome(event)}
        elif section == "finite":
            known["broken"] = tuple(event["broken"].items())
        elif section == "alone":
            side = "alone" if event["side"] == "artifact" else "reference_alone"
            known[side] = _outcome({**event, "differences": [event["difference"]]})
        elif section in ("related", "reference_repeat"):
            known[section] = _outcome(event)
        elif section == "weights":
            known["weights"] = _make(WeightCheck, event)
        elif section == "stopped":
            known["stopped"] = event["reason"]
    known |= {name: tuple(found) for name, found in lists.items()}
    return ArtifactRun(**known, hypotheses=tuple(hypotheses))


def _sample(event: Mapping[str, Any]) -> dict[str, Any]:
    known: dict[str, Any] = {name: event[name] for name in ("artifact_error", "inputs_error") if name in event}
    known |= {name: _ports(event[name]) for name in ("outputs", "expected") if name in event}
    if "differences" in event:
        known |= {"sample": _outcome(event), "names_agree": event["names_agree"]}
    if "reference_error" in event:
        known["sample"] = Outcome(error=f"the reference fails on the sample inputs ({event['reference_error']})")
    return known


def _outcome(event: Mapping[str, Any]) -> Outcome:
    found = {
        **event,
        "differences": tuple(_make(OutputDifference, each) for each in event.get("differences", ())),
        "shapes": tuple((name, tuple(shape)) for name, shape in event.get("shapes", {}).items()),
    }
    return _make(Outcome, found)


def _make(kind: type[_T], event: Mapping[str, Any]) -> _T:
    """A record of the fields that it knows; lists become tuples, None its default."""
    names = {field.name for field in fields(kind)}  # type: ignore[arg-type]
    return kind(
        **{
            name: tuple(value) if isinstance(value, list) else value
            for name, value in event.items()
            if name in names and value is not None
        }
    )


def _ports(ports: Iterable[Mapping[str, Any]]) -> tuple[Port, ...]:
    return tuple(Port(port["name"], port["dtype"], tuple(port["dims"])) for port in ports)


def _plain(port: Port) -> dict[str, Any]:
    return {"name": port.name, "dtype": port.dtype, "dims": list(port.dims) if port.dims is not None else None}
