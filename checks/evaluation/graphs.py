"""Graphs that nobody needs, and graphs that never end."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from itertools import groupby

from doctor.evidence.base import Source
from doctor.evidence.forward_log import Forward, ForwardLog
from doctor.evidence.program_run import ProgramRun
from doctor.findings import Finding, Location, Measure, Severity
from doctor.registry import Limits, check


class NoGradLimits(Limits):
    """Thresholds of EVL003."""

    in_a_row: int = 3  # forwards without any backward: one alone may be a detached target
    held: int = 3  # graphs alive at once


class RetainedLimits(Limits):
    """Thresholds of EVL004."""

    growth: int = 8  # graphs added without one being let go
    steps: int = 4  # steps whose backward went through the same forward


@check("EVL003", "missing-no-grad", Severity.WARNING, faq="training/architecture/duplicated")
def missing_no_grad(log: ForwardLog, limits: NoGradLimits) -> Iterator[Finding]:
    """Evaluation builds graphs for a backward that never comes.

    ## What it measures
    Forwards in eval mode, of a model that trains in training mode, with gradients enabled, through which neither
    `backward` nor `autograd.grad` ever went. An error when `held` of their graphs were alive at once.
    ## Why it hurts
    Every activation is kept until the output is let go: evaluation takes the memory of training, and a list of outputs
    that of all of them together.
    ## Example
    ```python
    model.eval()
    outputs = [model(x) for x, _ in test_loader]
    ```
    ## Use instead
    ```python
    model.eval()
    with torch.no_grad():
        outputs = [model(x) for x, _ in test_loader]
    ```
    ## When it is right
    Saliency, adversarial examples and gradient penalties use the graph. Detached targets of a model in training mode
    are left alone.
    ## References
    `torch.no_grad`, `torch.inference_mode`.
    """
    for root in log.roots():
        trained = log.trained(root)
        if not trained:
            continue
        lines = {f.source for f in trained}
        idle = [f for f in log.forwards if f.root == root and not f.used and f.source not in lines]
        asleep = [f for f in idle if not f.training and f.step > 0 and trained[0].training]
        rows = [len(list(group)) for _, group in groupby(idle, key=lambda f: (f.backward, f.source))]
        held = max((f.held for f in idle), default=0)
        if not asleep and (
            max(rows, default=0) < limits.in_a_row or held < limits.held or _in_each_step(idle, trained)
        ):
            continue
        chosen = asleep or idle
        place = chosen[0].source
        yield Finding(
            message=f"{len(chosen)} evaluation forwards built graphs that nothing used"
            + (f", {held} of them alive at once" if held > 1 else ""),
            location=_at(place),
            measured={
                "unused_graphs": Measure(value=len(chosen)),
                "alive_at_once": Measure(value=held, threshold=limits.held),
            },
            remedy="evaluate under torch.no_grad()",
            severity=Severity.ERROR if held >= limits.held else None,
            demonstrated="no backward went through these forwards",
        )


@check("EVL004", "graph-retained", Severity.WARNING, faq="tuning/gradients/duplicated")
def graph_retained(log: ForwardLog, run: ProgramRun | None, limits: RetainedLimits) -> Iterator[Finding]:
    """Graphs of earlier steps are kept alive, or gone through again.

    ## What it measures
    Marks in the graph of every forward: how many of steps long ago are still alive after a garbage collection
    (`growth` added without one being let go), and whether the backwards of `steps` steps went through the same forward,
    or a second one failed on it.
    ## Why it hurts
    Memory grows with every step; a state that is carried on without `detach` makes each backward longer than the last,
    or fails because the earlier graph is gone.
    ## Example
    ```python
    total_loss += loss
    ```
    ## Use instead
    ```python
    total_loss += loss.item()
    ```
    ## When it is right
    Several losses of one step may share a graph; so may the steps of two optimizers. What is collected in a list for one
    backward at the end of an episode is used by it and let go.
    ## References
    PyTorch FAQ, "My model reports cuda runtime error(2): out of memory".
    """
    crash = run.crash if run else None
    failed = crash is not None and "backward through the graph a second time" in crash.message
    again = [f for f in log.forwards if len(set(f.used)) >= limits.steps]
    if failed and log.twice:
        return  # GRD007: twice within one step
    if failed or again:
        held = log.through
        name = f" ({held.name} carries it on)" if held else ""
        what = "fails on a graph" if failed else f"of {len(set(again[0].used))} steps goes through a forward"
        yield Finding(
            message=f"the backward {what} that an earlier step has used{name}",
            location=_at((held.source if held else None) or log.through_source or (crash.source if crash else None)),
            measured={"steps_through_one_forward": Measure(value=len(set(again[0].used)) if again else 2)},
            remedy="detach what is carried from step to step: hidden = hidden.detach()",
            severity=Severity.ERROR,
            demonstrated="one forward was gone through by backwards of several steps",
        )
        return
    growth = log.longest_growth()
    if growth < limits.growth or (log.holder is None and growth < 3 * limits.growth):
        return
    kept = [f for f in log.forwards if f.used]
    place = (log.holder.source if log.holder else None) or (kept[0].source if kept else None)
    yield Finding(
        message=f"{growth} graphs of earlier steps are still alive, one more with every step"
        + (f": {log.holder.name} holds them" if log.holder else ""),
        location=_at(place),
        measured={"graphs_alive": Measure(value=max(log.alive), threshold=limits.growth)},
        remedy="keep numbers, not tensors with a graph: loss.item(), or loss.detach()",
        demonstrated=f"{growth} graphs were added without one being let go",
    )


def _at(place: Source | None) -> Location:
    return Location(path=place.path, line=place.line) if place else Location()


def _in_each_step(idle: list[Forward], trained: Sequence[Forward]) -> bool:
    """Whether these forwards are part of the training step: as many before each backward, and in nearly all steps."""
    counts = Counter((f.backward, f.source) for f in idle)
    steps = {f.step for f in trained}
    return len(set(counts.values())) == 1 and len({f.step for f in idle} & steps) >= 0.9 * len(steps) > 2
