"""Outputs that are not the reference's."""

from __future__ import annotations

from collections.abc import Iterator

from doctor.evidence.artifact_run import ArtifactRun, ParityRun
from doctor.evidence.io_contract import IOContract
from doctor.findings import Finding, Location, Measure, Severity
from doctor.registry import Limits, check, look

from ._told import CHANGES_OUTPUTS, NOT_FINITE, apart, measures, shown

_ELSEWHERE = ("swapped-inputs", "swapped-outputs", "missing-preprocessing", "double-preprocessing", "train-mode-export")
_ROUNDED = ("int8", "int4")


class MismatchLimits(Limits):
    """Thresholds of IOC001; the tolerances by precision are the gate's own (docs/parity.md)."""

    most_differing: float = 0.5  # share of the tensors from which another training, and no single tensor, is meant


@check(
    "IOC001",
    "output-mismatch",
    Severity.ERROR,
    faq="deployment/inputs and outputs/incorrect",
    faults=("output-mismatch", "quantization-error", "stale-artifact", "dtype-overflow"),
)
def output_mismatch(parity: ParityRun, contract: IOContract | None, limits: MismatchLimits) -> Iterator[Finding]:
    """The artifact gives other outputs than the reference model on the same inputs.

    ## What it measures
    Both run on the sample in eval mode. Per output the largest error and the root mean square error, divided by the
    standard deviation of the reference's output. They pass up to a tolerance by the lowest precision in the artifact
    (float32 1e-3 and 1e-4, float16 5e-2 and 1e-2, 8 bits 0.3 and 0.05, which is 26 dB), or eight times what rounding the reference's weights
    to that precision changes, if that is more. Weights are compared by name: where the reference with the artifact's
    weights gives the artifact's outputs, the weights are at fault, else the graph. Causes with a rule of their own
    (exchanged inputs, missing preprocessing, training mode) are told by that rule.
    ## Why it hurts
    The model that was evaluated is not the one that is served.
    ## Example
    ```python
    torch.onnx.export(model, x, "model.onnx")
    model.head = new_head  # trained on, not exported again
    ```
    ## Use instead
    ```python
    model.head = new_head
    torch.onnx.export(model.eval(), x, "model.onnx")
    ```
    ## When it is right
    Rounding: other kernels, float16, 8-bit weights. A reference whose weights differ at every build has no outputs to
    compare, and the rule is skipped; where its output is random, nothing is said.
    ## References
    torch.testing.assert_close for tolerances by dtype; docs/parity.md for those of the gate and how they were measured.
    """
    run = parity.run
    if parity.faithful or (parity.cause and parity.cause.kind in _ELSEWHERE):
        return
    worst = parity.sample.worst
    trains = contract is not None and bool(contract.of("training"))
    if worst is None or not worst.same_shape or _random(run) or (run.unsteady is not None and not trains):
        return
    told, reason, severity = apart(parity.sample), "", Severity.ERROR
    faults: tuple[str, ...] = ("output-mismatch", "stale-artifact")  # unless a cause is found
    weights, location = run.weights, Location(tensor=worst.artifact_output)
    measured = measures(parity.sample, run)
    if run.whole is False:
        reason = "the weights do not fill the model: what is missing has the values of a fresh one"
        severity = Severity.INFO  # the rule about keys names the fault
    elif trains:
        reason, severity = "it computes as in training (IOC002)", Severity.INFO
    elif any(not port.used for port in contract.inputs) if contract is not None else False:
        unused = tuple(port.name for port in contract.inputs if not port.used) if contract else ()
        reason, faults = f"its input {shown(unused)} is read by no node", ("output-mismatch", "wrong-io-signature")
    elif worst.broken and run.tolerance.precision == "float16":
        reason, faults = "float16 ends at 65504", ("dtype-overflow", "output-mismatch")
    elif weights is not None and weights.exchanged:
        one, other = weights.exchanged
        reason, faults = f"{one} holds the values of {other}, and the reverse", ("output-mismatch",)
        location = Location(tensor=one)
    elif weights is not None and weights.differing and weights.explains is not False:
        measured["differing_tensors"] = Measure(value=weights.differing, unit=f"of {weights.compared}")
        location = Location(tensor=weights.differing_names[0])
        if weights.on_grid >= 0.5 * weights.differing or run.tolerance.precision in _ROUNDED:
            reason = f"{weights.differing} weights lie on a grid too coarse for them"
            faults = ("quantization-error", "output-mismatch")
        elif weights.constants:
            reason = f"the constants {shown(weights.differing_names)} are not the reference's"
            faults = ("output-mismatch", "missing-preprocessing", "wrong-normalization-stats")
        elif weights.differing >= limits.most_differing * weights.compared:
            reason = f"{weights.differing} of {weights.compared} weights are another training's"
            faults = ("stale-artifact", "output-mismatch")
        else:
            reason = f"the weights {shown(weights.differing_names)} are not the reference's"
            faults = ("output-mismatch", "stale-artifact")
    elif run.tolerance.precision in _ROUNDED:
        reason = "rounding to 8 bits cannot explain that much" if not worst.broken else ""
        faults = ("quantization-error", "output-mismatch")
    elif parity.cause is not None:
        reason = f"it gives what is the {parity.cause.description}"
        faults = ("output-mismatch", "wrong-io-signature")
    elif weights is not None and weights.explains is False and not weights.differing:
        reason, faults = "its weights are the reference's, its graph is not", ("output-mismatch", "stale-artifact")
    yield Finding(
        message=f"{told}" + (f": {reason}" if reason else ""),
        location=location,
        measured=measured,
        severity=severity,
        faults=faults,
        follows_from=CHANGES_OUTPUTS,
        demonstrated="artifact and reference were run on the same inputs",
        remedy="export the artifact again from the model that was evaluated, and compare their outputs before shipping",
    )


def _random(run: ArtifactRun) -> bool:
    again = run.reference_repeat
    return bool(again and again.worst and again.worst.rms > 1e-6)


@check(
    "IOC012",
    "artifact-fails",
    Severity.ERROR,
    faq="deployment/inputs and outputs/incorrect",
    faults=("corrupt-file", "dtype-overflow"),
)
def artifact_fails(run: ArtifactRun, contract: IOContract | None) -> Iterator[Finding]:
    """The runtime cannot open the artifact, or it gives numbers that are not finite.

    ## What it measures
    Whether ONNX Runtime, TorchScript or torch.export opens the file, runs it on the sample inputs, and whether all
    floats that come out are finite.
    ## Why it hurts
    The server does not start, or every answer is NaN.
    ## Example
    ```python
    model.half()  # activations beyond 65504 become infinite
    torch.onnx.export(model, x.half(), "model.onnx")
    ```
    ## Use instead
    ```python
    model.bfloat16()  # or keep the overflowing layers in float32
    torch.onnx.export(model, x.bfloat16(), "model.onnx")
    ```
    ## When it is right
    Outputs that mask by infinity; where the reference gives the same, nothing is said. Inputs that were made up from the
    declared signature prove nothing, and failures on them are reported as info.
    ## References
    onnxruntime.ai/docs/reference/compatibility.html
    """
    if run.load_error and run.backend == "" and run.named:
        yield Finding(
            message=f"ONNX Runtime cannot open the artifact: {run.load_error}",
            faults=("corrupt-file",),
            demonstrated="it was opened",
            remedy="export for the runtime that serves it, and register the custom operations that it needs",
        )
    elif run.stopped and "signal" in run.stopped:
        yield Finding(
            message=f"the process that ran the artifact was stopped: {run.stopped}",
            severity=Severity.INFO,
            remedy="run it in the runtime that serves it: this one may lack its operations",
        )
    elif run.artifact_error and not run.missing:
        yield Finding(
            message=f"the artifact fails on the inputs ({run.origin}): {run.artifact_error}",
            severity=Severity.ERROR if run.sampled and not _signature_explains(run, contract) else Severity.INFO,
            faults=("wrong-io-signature",),
            demonstrated="it was run",
            remedy="export with inputs of the dtypes, ranks and sizes that clients send",
        )
    else:
        reference_too = run.sample is not None and run.sample.worst is not None and not run.sample.worst.broken
        for name, count in run.broken if not reference_too else ():
            yield Finding(
                message=f"{count} elements of output {name} are not finite",
                location=Location(tensor=name),
                measured={"not_finite": Measure(value=count, threshold=0)},
                severity=Severity.ERROR if run.sampled else Severity.INFO,
                faults=("dtype-overflow", "nan-weights", "output-mismatch"),
                follows_from=NOT_FINITE,
                demonstrated="it was run",
                remedy="look for overflow in the artifact's precision, and for NaN in its weights",
            )


def _signature_explains(run: ArtifactRun, contract: IOContract | None) -> bool:
    """Whether IOC003 or IOC004 tells why the inputs do not fit."""
    sent = {port.name: port.dims or () for port in run.given}
    for port in contract.inputs if contract else ():
        dims, other = port.dims, sent.get(dict(run.renamed).get(port.name, port.name))
        if dims is None or other is None:
            continue
        if len(dims) != len(other) or any(
            isinstance(own, int) and own != size for own, size in zip(dims, other, strict=True)
        ):
            return True
    return bool(run.renamed or run.cast)


@look("IOC001")
def inputs_beside_the_sample(parity: ParityRun) -> Iterator[Finding]:
    """Faithful on the sample, and not when one input alone is changed."""
    if not parity.faithful:
        return
    for outcome in parity.run.changed:
        worst = outcome.worst
        if outcome.taken and outcome.noticed and outcome.within is False and worst is not None:
            yield Finding(
                message=f"with {outcome.input} changed, {apart(outcome)}",
                location=Location(tensor=outcome.input),
                measured=measures(outcome, parity.run),
                severity=Severity.ERROR if worst.rms > 10 * parity.run.tolerance.rms else Severity.INFO,
                faults=("output-mismatch",),
                follows_from=CHANGES_OUTPUTS,
                demonstrated="both were run with this input changed",
                remedy=f"export again, with {outcome.input} as an input and no value of it written into the graph",
            )
