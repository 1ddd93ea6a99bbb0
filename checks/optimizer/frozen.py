"""Models in which nothing can learn, or only a head upon a random body."""

from __future__ import annotations

from collections.abc import Iterator

from doctor.evidence.base import Source
from doctor.evidence.frozen_weights import FrozenRoot, FrozenWeights
from doctor.evidence.module_tree import ModuleTree, RootRecord
from doctor.evidence.program_run import ProgramRun
from doctor.findings import Finding, Location, Measure, Severity
from doctor.registry import Limits, check
from doctor.trials.treatments.stepping import UnfreezeParameters


class FrozenLimits(Limits):
    """Thresholds of OPT016."""

    share: float = 0.5  # of the model's elements that are frozen; any share, where they are embeddings
    untrained: float = 0.8  # of the frozen weights that still look initialised
    least: int = 2  # such weights; one frozen random layer is a random feature map, unless an optimizer was given it
    nothing: float = 0.999


@check("OPT016", "frozen-params", Severity.WARNING, faq="tuning/parameters/missing")
def frozen_params(
    run: ProgramRun, frozen: FrozenWeights, tree: ModuleTree | None, limits: FrozenLimits
) -> Iterator[Finding]:
    """Parameters are frozen that were never trained: the model cannot learn what it is meant to.

    ## What it measures
    The share of each called model's elements with `requires_grad=False`, and whether the frozen matrices and kernels
    still look like the usual initialisation of their layer (uniform or normal with the deviation that follows from its
    size) with no weights loaded into them and no movement during the run. Fires when nothing can learn, and when more than
    `share` is frozen of which `untrained` looks initialised, or frozen embeddings hold drawn values
    (`Embedding.from_pretrained` freezes). The trial lets them learn.
    ## Why it hurts
    Only the last layer is fitted, to features that mean nothing.
    ## Example
    ```python
    model = torchvision.models.resnet18(weights=None)
    for p in model.parameters():
        p.requires_grad = False
    model.fc = nn.Linear(512, 10)
    ```
    ## Use instead
    ```python
    model = torchvision.models.resnet18(weights="DEFAULT")
    for p in model.parameters():
        p.requires_grad = False
    model.fc = nn.Linear(512, 10)
    ```
    ## When it is right
    Pretrained bodies under a new head, adapters, averaged copies and target networks (they move, or were loaded), fixed
    position codes, and one random layer as a feature map that no optimizer holds are silent.
    ## References
    He et al., "Delving Deep into Rectifiers" (2015), and `reset_parameters` of torch's layers for the deviations.
    """
    message = run.crash.message if run.crash is not None else ""
    stuck = "does not require grad" in message or "optimizer got an empty parameter list" in message
    roots = {root.index: root for root in tree.roots} if tree is not None else {}
    moved = {p.name for p in tree.parameters if p.moved} if tree is not None else set()
    held = {p.name for p in tree.parameters if p.optimizer is not None} if tree is not None else set()
    told: set[tuple[Source, ...]] = set()
    for record in frozen.roots:
        root = roots.get(record.root)
        if root is None or not record.parameters:
            continue
        share = record.frozen / record.parameters
        if stuck and share >= limits.nothing:
            yield _finding(record, root, share, "every parameter is frozen: nothing can learn", Severity.ERROR, True)
            return
        if not root.forwards or record.loads:
            continue
        if record.tables and not record.pretrained and not moved & set(record.tables) and share < limits.share:
            yield _tables(record, share)
            return
        if share < limits.share:
            continue
        trained = tree is not None and any(
            p.root == record.root and p.reached and p.requires_grad for p in tree.parameters
        )
        least = 1 if set(record.names) <= held else limits.least
        if not trained or record.untrained < least or record.untrained < limits.untrained * record.examined:
            continue
        if moved & set(record.names) or (record.lines and record.lines in told):
            continue  # the same line freezes one model a fold
        told.add(record.lines)
        shown = ", ".join(record.names[:3]) + (f" and {len(record.names) - 3} more" if len(record.names) > 3 else "")
        text = (
            f"{share:.0%} of {root.kind} is frozen, and {record.untrained} of its {record.examined} frozen weights are as "
            f"they were initialised: {shown}"
        )
        yield _finding(record, root, share, text, Severity.WARNING, False)


def _tables(record: FrozenRoot, share: float) -> Finding:
    shown = ", ".join(record.tables[:3]) + (f" and {len(record.tables) - 3} more" if len(record.tables) > 3 else "")
    return Finding(
        message=f"the embeddings {shown} are frozen, and hold values as drawn at random: no row will ever mean anything",
        location=Location(path=record.table.path, line=record.table.line) if record.table else Location(),
        measured={"frozen": Measure(value=share), "frozen_embeddings": Measure(value=len(record.tables), threshold=1)},
        remedy="let them learn: Embedding.from_pretrained(weights, freeze=False), or nn.Embedding(rows, width)",
        treatment=UnfreezeParameters(root=record.root),
        demonstrated="Embedding.from_pretrained freezes by default, and was given no trained values"
        if record.by_default
        else None,
    )


def _finding(
    record: FrozenRoot, root: RootRecord, share: float, message: str, severity: Severity, certain: bool
) -> Finding:
    place: Source | None = record.lines[0] if record.lines else root.created
    return Finding(
        message=message,
        location=Location(path=place.path, line=place.line) if place else Location(),
        severity=severity,
        measured={
            "frozen": Measure(value=share, threshold=0.5),
            "untrained_weights": Measure(value=record.untrained, threshold=2),
        },
        remedy="load trained weights into what is frozen, or let it learn (requires_grad_(True), and in the optimizer)",
        treatment=None if certain else UnfreezeParameters(root=record.root),
        demonstrated="no parameter requires a gradient" if certain else None,
    )
