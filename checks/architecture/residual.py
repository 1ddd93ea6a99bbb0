"""Deep plain stacks."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator

from doctor.evidence.call_log import CallLog
from doctor.evidence.gradient_flow import GradientFlow
from doctor.evidence.module_tree import ModuleRecord, ModuleTree
from doctor.evidence.op_tape import Op, OpTape, Tape
from doctor.evidence.training_trace import TrainingTrace
from doctor.findings import Finding, Location, Measure, Severity
from doctor.registry import Limits, check
from doctor.trials.treatments.shapes import InsertResidual

_MAPS = ("addmm", "mm", "convolution")
_SUMS = ("add", "mul", "cat")


class ResidualLimits(Limits):
    """Thresholds of ARC015."""

    depth: int = 8  # layers in a row; plain networks of fewer train without skips
    decay: float = 0.05  # gradient of the first quarter of the layers against the last quarter


@check("ARC015", "missing-residual", Severity.WARNING, faq="training/architecture/missing")
def missing_residual(
    tree: ModuleTree,
    tape: OpTape,
    flow: GradientFlow | None,
    trace: TrainingTrace | None,
    calls: CallLog | None,
    limits: ResidualLimits,
) -> Iterator[Finding]:
    """Many layers in a row, without skip connections, and what reaches the first of them has faded.

    ## What it measures
    On the taped step, the longest chain of layers with weights in which no sum, product or concatenation brings an
    earlier tensor back. It is reported from `depth` layers on when the gradients (root mean square, median over the sampled
    steps) of its first quarter are below `decay` of those of its last, or when the loss stands still. The trial adds
    the input to the output of each block whose shape allows it.
    ## Why it hurts
    Each layer scales the gradient by a factor; over many layers the product vanishes, and the early ones stay random.
    ## Example
    ```python
    def forward(self, x):
        return F.relu(self.norm(self.conv(x)))
    ```
    ## Use instead
    ```python
    def forward(self, x):
        return x + F.relu(self.norm(self.conv(x)))
    ```
    ## When it is right
    Plain stacks such as VGG, well initialised or normalised, whose gradients arrive; recurrent layers have gates.
    ## References
    He et al., "Deep Residual Learning for Image Recognition" (CVPR 2016).
    """
    chain = _longest_chain(tape.first)
    paths = list(dict.fromkeys(op.module for op in chain if op.module))
    if len(chain) < limits.depth or len(paths) < limits.depth:
        return
    if calls is not None and any(calls.in_library(path.rpartition(".")[0], chain[0].root) for path in paths):
        return
    decay = _decay(flow, paths)
    still = trace is not None and trace.stands_still()
    if not still and (decay is None or decay > limits.decay):
        return
    blocks = _blocks(tree, tape.first, paths, chain[0].root or 0)
    if len(blocks) < limits.depth // 3:
        return
    place = blocks[0].created
    told = "" if decay is None else f"; gradients of the first layers are {decay:.2g} of those of the last"
    yield Finding(
        message=f"{len(chain)} layers follow each other without a skip connection"
        + told
        + ("; the loss stands still" if still else ""),
        location=Location(
            path=place.path if place else None, line=place.line if place else None, module=blocks[0].path or None
        ),
        measured={
            "depth": Measure(value=len(chain), threshold=limits.depth),
            "gradient_decay": Measure(value=decay, threshold=limits.decay),
        },
        remedy=f"add its input to the output of each {blocks[0].kind}: x = x + block(x)",
        treatment=InsertResidual(modules=tuple(block.path for block in blocks), root=blocks[0].root),
        demonstrated=_shown(tape.first, blocks, len(chain)) if still else None,
    )


def _shown(tape: Tape, blocks: list[ModuleRecord], depth: int) -> str | None:
    """A stack of the user's own blocks that learns nothing; saturating functions would be another cause."""
    if blocks[0].builtin or any(op.grad_enabled for op in tape.named("sigmoid", "tanh")):
        return None
    return f"{len(blocks)} {blocks[0].kind} in a row of {depth} layers have no skip, and the loss stands still"


def _longest_chain(tape: Tape) -> list[Op]:
    """From layer to layer, through operations of one computed operand."""
    chains: dict[int, list[Op]] = {}
    best: list[Op] = []
    for op in tape.forward:
        if not op.grad_enabled or not op.outputs:
            continue
        carried = [chains[n.id] for n in op.inputs if n.id in chains]
        chain = max(carried, key=len, default=[])
        if op.name in _SUMS and len([n for n in op.inputs if n.requires_grad and not n.parameter]) > 1:
            chain = []
        if op.name in _MAPS and any(kind in op.module_kind for kind in ("RNN", "GRU", "LSTM", "Attention")):
            chain = []
        elif op.name in _MAPS and op.module and any(n.requires_grad for n in op.inputs):
            chain = [*chain, op]
        if len(chain) > len(best):
            best = chain
        for note in op.outputs:
            chains[note.id] = chain
    return best


def _decay(flow: GradientFlow | None, paths: list[str]) -> float | None:
    if flow is None:
        return None
    sizes = {p.module: p.typical() for p in flow.parameters if len(p.shape) > 1}
    known = [size for size in (sizes.get(path) for path in paths) if size is not None]
    quarter = max(1, len(known) // 4)
    if len(known) < 4:
        return None
    first, last = sorted(known[:quarter])[quarter // 2], sorted(known[-quarter:])[quarter // 2]
    return first / last if last > 0 else None


def _blocks(tree: ModuleTree, tape: Tape, paths: list[str], root: int) -> list[ModuleRecord]:
    """What a skip can go around: the user's repeated modules that keep the shape, else the layers themselves."""
    kept = _keeping(tape)
    holders = Counter(path.rpartition(".")[0] for path in paths)
    records = [tree.module(holder, root) for holder in holders]
    own = [r for r in records if r is not None and r.path and not r.builtin]
    kinds = Counter(record.kind for record in own)
    repeated = [r for r in own if kinds[r.kind] >= 3]
    if repeated:
        return repeated
    layers = [tree.module(path, root) for path in paths if path in kept]
    return [layer for layer in layers if layer is not None]


def _keeping(tape: Tape) -> set[str]:
    """Layers whose result has the width that they get."""
    found = set()
    for op in tape.named(*_MAPS):
        if not op.inputs or not op.outputs:
            continue
        data = op.inputs[0] if op.name == "convolution" else op.inputs[-2]
        if data.shape == op.outputs[0].shape:
            found.add(op.module)
    return found
