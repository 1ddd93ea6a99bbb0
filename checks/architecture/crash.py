"""Programs that end with an exception."""

from __future__ import annotations

import re
from collections.abc import Iterator

from doctor.evidence.program_run import Crash, ProgramRun
from doctor.findings import Finding, Location, Measure, Nature, Related, Severity
from doctor.registry import check

_SHAPES: tuple[tuple[str, str, str], ...] = (
    (
        r"mat1 and mat2 shapes cannot be multiplied \((\d+)x(\d+) and (\d+)x(\d+)\)",
        "the layer wants {3} input features and gets {2}",
        "change the layer's in_features to {2}, or what comes before it to give {3} features",
    ),
    (
        r"expected input\[[^\]]*\] to have (\d+) channels, but got (\d+) channels",
        "the convolution wants {1} channels and gets {2}",
        "change in_channels to {2}, or permute the input to (batch, channels, ...)",
    ),
    (
        r"size of tensor a \((\d+)\) must match the size of tensor b \((\d+)\) at non-singleton dimension (\d+)",
        "two tensors of lengths {1} and {2} meet on axis {3}",
        "make both the same length on axis {3}, or insert an axis of length 1 where one is to be repeated",
    ),
    (
        r"shape '\[([^\]]*)\]' is invalid for input of size (\d+)",
        "{2} elements cannot be viewed as [{1}]",
        "let one axis be -1, or compute it from x.shape",
    ),
    (
        r"Expected input batch_size \((\d+)\) to match target batch_size \((\d+)\)",
        "{1} predictions meet {2} targets",
        "keep the batch axis first and unflattened, or flatten prediction and target alike",
    ),
    (
        r"[Tt]arget size \(torch\.Size\(\[(\d+)\]\)\) must be the same as input size \(torch\.Size\(\[\1, \1\]\)\)",
        "{1} x {1} predictions meet {1} targets: something of shape ({1}, 1) was added to something of shape ({1},)",
        "give all parts of the prediction one shape: squeeze(1)",
    ),
    (
        r"[Tt]arget size \(torch\.Size\(\[([\d, ]+)\]\)\) must be the same as input size \(torch\.Size\(\[([\d, ]+)\]\)\)",
        "targets of shape ({1}) meet predictions of shape ({2})",
        "give both the same shape: prediction.squeeze(1), or target.unsqueeze(1)",
    ),
    (
        r"Sizes of tensors must match except in dimension (\d+)",
        "the tensors that are joined differ on another axis than {1}",
        "make them the same length on every axis but {1}",
    ),
    (
        r"running_mean should contain (\d+) elements not (\d+)",
        "the batch norm is made for {2} features and gets {1}",
        "change num_features to {1}",
    ),
    (
        r"Given normalized_shape=\[([^\]]*)\], expected input with shape \[\*, ([^\]]*)\]",
        "the layer norm is made for [{1}] and gets another last axis",
        "change normalized_shape to the length of the last axis",
    ),
    (
        r"input\.size\(-1\) must be equal to input_size\. Expected (\d+), got (\d+)",
        "the recurrent layer wants {1} features and gets {2}",
        "change input_size to {2}",
    ),
    (
        r"stack expects each tensor to be equal size",
        "the samples of one batch differ in shape",
        "pad or crop them, or give the DataLoader a collate_fn",
    ),
    (r"[Ee]xpected .*?(\d+)D.*? input", "the input has another number of axes", "add or remove an axis (unsqueeze)"),
    (
        r"Using a target size|same shape|must have the same|size mismatch|shape mismatch",
        "two shapes differ",
        "print both",
    ),
)
_OTHERS: tuple[tuple[str, str, str], ...] = (
    (
        r"expected scalar type (\w+) but found (\w+)",
        "a tensor is {2} where {1} is wanted",
        "convert it (x.float(), y.long())",
    ),
    (r"mat1 and mat2 must have the same dtype", "input and weights differ in type", "convert the input with .float()"),
    (
        r"does not require grad and does not have a grad_fn",
        "the loss is not connected to the parameters",
        "compute it from the model's differentiable output",
    ),
    (
        r"modified by an inplace operation",
        "a tensor that backward needs was changed in place",
        "replace x += y by x = x + y, or relu(inplace=True) by relu",
    ),
    (r"EOF when reading a line", "the script reads from stdin", "give it what it asks for as an argument"),
)


_TOLD_ELSEWHERE = (  # other rules saw what led there: DAT006, DAT019, LOS006, OPT008, OPT016, EVL004, GRD007
    r"Target -?\d+ is out of bounds|index out of range in self|multi-target not supported"
    r"|expected scalar type Long|target with class probabilities, got|Class values must be"
    r"|elements of target should be between 0 and 1|\"(nll_loss|cross_entropy)\w*\" not implemented"
    r"|does not require grad and does not have a grad_fn|specified number of total steps"
    r"|backward through the graph a second time|optimizer got an empty parameter list"
)


@check(
    "ARC001",
    "shape-mismatch",
    Severity.ERROR,
    faq="training/architecture/incorrect",
    faults=("shape-mismatch", "wrong-output-size"),
    nature=Nature.CRASH,
)
def shape_mismatch(run: ProgramRun) -> Iterator[Finding]:
    """A layer or the loss gets a tensor of another shape than it is made for.

    ## What it measures
    The exception that ended the program, the innermost module that was running, and the shapes it was called with.
    ## Why it hurts
    The program cannot run.
    ## Example
    ```python
    features = nn.Linear(20, 64)
    head = nn.Linear(32, 2)
    logits = head(features(x))
    ```
    ## Use instead
    ```python
    features = nn.Linear(20, 64)
    head = nn.Linear(64, 2)
    logits = head(features(x))
    ```
    ## When it is right
    Never: the program has crashed.
    ## References
    The error messages of PyTorch 2.13.
    """
    if run.crash is not None:
        known = _explained(run.crash, _SHAPES)
        if known is not None:
            found = _finding(run, run.crash, *known)
            of_loss = "must be the same as input size" in run.crash.message
            yield found.revised(faults=("shape-mismatch", "broadcast-loss", "wrong-output-size")) if of_loss else found


@check("ARC002", "program-crash", Severity.ERROR, faq="training/architecture/incorrect", faults=(), nature=Nature.CRASH)
def program_crash(run: ProgramRun) -> Iterator[Finding]:
    """The program ends with an exception.

    ## What it measures
    Any exception that ended the program and that no other rule explains, with the user's line and the running module.
    ## Why it hurts
    The program cannot run.
    ## Example
    ```python
    model = nn.Linear(4, 2)
    loss = model(x).mean
    loss.backward()
    ```
    ## Use instead
    ```python
    model = nn.Linear(4, 2)
    loss = model(x).mean()
    loss.backward()
    ```
    ## When it is right
    Never: the program has crashed.
    ## References
    None.
    """
    crash = run.crash
    if run.outcome == "exited" and run.steps == 0:
        yield Finding(
            message=f"the program left with status {run.exit_code} before its first optimizer step",
            location=Location(path=run.script),
            remedy="give the arguments that it wants after --: doctor diagnose train.py -- --data here",
            demonstrated="the program exits",
        )
    if crash is None or _explained(crash, _SHAPES) is not None:
        return
    if re.search(_TOLD_ELSEWHERE, crash.message):
        return
    known = _explained(crash, _OTHERS) or ("the program crashes", "mend the line named here")
    yield _finding(run, crash, *known)


@check(
    "ARC024",
    "crash-at-the-end",
    Severity.ERROR,
    faq="training/architecture/incorrect",
    faults=(),
    nature=Nature.OUTCOME,
)
def crash_at_the_end(run: ProgramRun) -> Iterator[Finding]:
    """The program ends with an exception to which another mistake usually leads.

    ## What it measures
    Exceptions for which another rule looks at what led there: ids out of range, losses without a graph, a graph that is
    used twice, a schedule that is too short. What that rule finds stands before this.
    ## Why it hurts
    The program cannot run.
    ## Example
    ```python
    loss = torch.tensor(criterion(model(x), y).item())
    loss.backward()
    ```
    ## Use instead
    ```python
    loss = criterion(model(x), y)
    loss.backward()
    ```
    ## When it is right
    Never: the program has crashed.
    ## References
    The error messages of PyTorch 2.13.
    """
    crash = run.crash
    if crash is not None and _explained(crash, _SHAPES) is None and re.search(_TOLD_ELSEWHERE, crash.message):
        known = _explained(crash, _OTHERS) or ("the program crashes", "mend the line named here")
        yield _finding(run, crash, *known)


@check(
    "OPT020",
    "no-training",
    Severity.ERROR,
    faq="training/optimizer/missing",
    faults=("missing-step", "missing-backward"),
    nature=Nature.CRASH,
)
def no_training(run: ProgramRun) -> Iterator[Finding]:
    """The program ended, or reached its time limit, without a single training step.

    ## What it measures
    Forwards, backwards and steps of the whole run, where there was neither a step nor a crash.
    ## Why it hurts
    Nothing was trained, so nothing could be examined.
    ## Example
    ```python
    def train():
        fit(model)
    ```
    ## Use instead
    ```python
    def train():
        fit(model)
    train()
    ```
    ## When it is right
    Scripts that only evaluate or export are not for `doctor diagnose`.
    ## References
    None.
    """
    if run.crash is not None or run.steps or run.outcome == "exited" or (run.backwards and run.optimizers):
        return
    if run.manual_updates:
        return
    if not run.torch_imported:
        what = "the program does not import torch"
    else:
        seen = f"{run.forwards} forwards, {run.backwards} backwards, {run.optimizers} optimizers, no step()"
        what = f"0 optimizer steps in {run.seconds:.1f} s; seen: {seen}"
    if run.outcome == "timeout":
        what += " before the time limit"
    place = run.backward_source or run.forward_source
    yield Finding(
        message=what,
        location=Location(path=place.path if place else run.script, line=place.line if place else None),
        measured={"steps": Measure(value=0, threshold=1)},
        remedy="diagnose the script that trains, with the arguments that make it train after --",
        demonstrated="no step was seen",
    )


def _explained(crash: Crash, table: tuple[tuple[str, str, str], ...]) -> tuple[str, str] | None:
    if crash.type not in ("RuntimeError", "ValueError", "IndexError", "AssertionError", "TypeError", "EOFError"):
        return None
    for pattern, words, cure in table:
        found = re.search(pattern, crash.message)
        if found:
            groups = ("", *found.groups())
            return words.format(*groups), cure.format(*groups)
    return None


def _finding(run: ProgramRun, crash: Crash, words: str, cure: str) -> Finding:
    where = f" in {crash.module or crash.module_text}" if crash.module or crash.module_text else ""
    shapes = ", ".join("x".join(map(str, shape)) or "scalar" for shape in crash.input_shapes)
    came = f" (called with {shapes})" if shapes else ""
    place = crash.source
    outer = tuple(
        Related(location=Location(path=frame.path, line=frame.line), message=f"called from {frame.function}")
        for frame in crash.frames[:-1][-3:]
    )
    return Finding(
        message=f"{words}{where}{came}: {crash.type}: {crash.message.splitlines()[0] if crash.message else ''}",
        location=Location(
            path=place.path if place else run.script, line=place.line if place else None, module=crash.module or None
        ),
        measured={"steps_before": Measure(value=run.steps)},
        remedy=cure,
        related=outer,
        demonstrated=f"the program crashes with {crash.type}",
        follows_from=("missing-values",) if re.search(r"\bNaN\b|\binfinity\b", crash.message) else (),
    )
