"""Artifacts that still train."""

from __future__ import annotations

from collections.abc import Iterator

from doctor.evidence.artifact_contents import ArtifactContents
from doctor.evidence.artifact_run import ArtifactRun, ParityRun
from doctor.evidence.io_contract import GraphNote, IOContract
from doctor.findings import Finding, Location, Measure, Severity
from doctor.registry import check, look

from ._told import shown

_OTHERWISE_IN_TRAINING = ("Dropout", "AlphaDropout", "FeatureAlphaDropout", "BatchNorm", "SyncBatchNorm")


@check(
    "IOC002",
    "train-mode-export",
    Severity.ERROR,
    faq="deployment/inputs and outputs/incorrect",
    faults=("train-mode-export", "missing-eval-mode", "batchnorm-misuse"),
)
def train_mode_export(contract: IOContract, run: ArtifactRun | None, parity: ParityRun | None) -> Iterator[Finding]:
    """The graph computes as in training: Dropout drops, BatchNorm normalises by the batch.

    ## What it measures
    In the file alone: ONNX BatchNormalization with training_mode=1 and Dropout whose training_mode input is the constant
    true; in TorchScript the constant True as the mode of dropout and batch_norm, and modules whose `training` attribute
    is true and read; in torch.export programs dropout and batch_norm nodes with training=True. In a pickled whole module the mode of such
    layers (a warning: it is mended by eval() after loading).
    ## Why it hurts
    An answer depends on chance and on who else is in the batch; a single request is normalised by itself.
    ## Example
    ```python
    torch.onnx.export(model, x, "model.onnx", training=torch.onnx.TrainingMode.PRESERVE)
    ```
    ## Use instead
    ```python
    model.eval()
    torch.onnx.export(model, x, "model.onnx")
    ```
    ## When it is right
    A Dropout with rate 0, instance normalisation and BatchNorm without running statistics. A graph that agrees with the
    reference in eval mode for every batch, and with itself (info). Monte Carlo dropout: ignore the rule there.
    ## References
    onnx.ai/onnx/operators: BatchNormalization-14, Dropout-13; github.com/pytorch/pytorch/issues/105661
    """
    notes = contract.of("training")
    if not notes:
        return
    harmless = bool(parity and parity.faithful and run and _steady(run) and all("atch" in note.op for note in notes))
    ops = sorted({note.op for note in notes})
    yield Finding(
        message=f"{len(notes)} nodes compute as in training ({', '.join(ops)}): {shown(_places(notes))}"
        + (_seen(run) if run and not harmless else ""),
        location=_location(notes[0]),
        measured={"nodes": Measure(value=len(notes), threshold=0)},
        severity=Severity.INFO if harmless else Severity.ERROR,
        demonstrated="it is written in the graph",
        remedy="call model.eval() before the export, and export with TrainingMode.EVAL",
    )


def _steady(run: ArtifactRun) -> bool:
    agreeing = all(outcome.within is not False and not outcome.error for outcome in run.batches)
    return run.unsteady is None and agreeing


def _places(notes: tuple[GraphNote, ...]) -> tuple[str, ...]:
    return tuple(dict.fromkeys(note.place for note in notes))


def _location(note: GraphNote) -> Location:
    if note.source:
        path, _, line = note.source.rpartition(":")
        return Location(path=path, line=int(line), module=note.place)
    return Location(module=note.place)


def _seen(run: ArtifactRun) -> str:
    if run.unsteady is not None and run.unsteady.worst is not None:
        return f"; two runs on the same inputs differ by up to {run.unsteady.worst.max_abs:.3g}"
    if run.alone is not None and run.alone.within is False and run.alone.worst is not None:
        return f"; a row alone and in its batch differ by up to {run.alone.worst.max_abs:.3g}"
    return ""


@look("IOC002")
def pickled_in_training(contents: ArtifactContents) -> Iterator[Finding]:
    """A whole module that was pickled in training mode: whoever loads it must know to call eval()."""
    if contents.facts.get("script") or contents.facts.get("container"):
        return  # TorchScript tells itself what it computes; a checkpoint to go on from is in training mode by right
    layers = {
        path: kind
        for path, layer in contents.facts.get("modules", {}).items()
        if layer.get("training") is True
        and (kind := str(layer.get("class", "")).rpartition(".")[2]).startswith(_OTHERWISE_IN_TRAINING)
        and not (kind.endswith("Dropout") and layer.get("p") == 0)
    }
    if layers:
        yield Finding(
            message=f"the module was pickled in training mode: {len(layers)} layers act as in training until eval() is "
            f"called ({', '.join(sorted(set(layers.values())))}): {shown(tuple(layers))}",
            location=Location(module=next(iter(layers))),
            measured={"layers": Measure(value=len(layers), threshold=0)},
            severity=Severity.WARNING,
            demonstrated="it is written in the file",
            remedy="call model.eval() before saving, or save the state dict",
        )


@look("IOC002")
def as_in_training(parity: ParityRun, contract: IOContract | None) -> Iterator[Finding]:
    """Graphs in which the exporter has dissolved the layers: they agree with the reference in training mode."""
    cause = parity.cause
    if cause is None or cause.kind != "train-mode-export" or parity.faithful or (contract and contract.of("training")):
        return
    worst = parity.sample.worst
    yield Finding(
        message="the outputs are those of the reference in training mode, and not in eval mode "
        f"(there, they differ by up to {worst.max_abs if worst else 0.0:.3g})",
        measured={"rms_error_in_training_mode": Measure(value=cause.rms, threshold=parity.run.tolerance.rms)},
        demonstrated="both were run on the same inputs",
        remedy="call model.eval() before the export",
    )
