"""Faults of the data, put in where a program hands its samples to the loader, or where its tensors are ready."""

from __future__ import annotations

import ast
import re
from dataclasses import dataclass

from benchmarks.operators.base import Wound, operator, wound
from benchmarks.operators.losses import CROSS_ENTROPY, REGRESSION
from benchmarks.source import Edit, Source, lines_of


@dataclass(frozen=True)
class Handed:
    """`TensorDataset(inputs, ..., targets)` of the training data, and of the test data where there is one."""

    train: ast.Call
    test: ast.Call | None
    continuous: bool  # inputs are numbers, not tokens


def _handed(source: Source) -> Handed | None:
    found = [c for c in source.calls("TensorDataset") if len(c.args) >= 2 and not isinstance(c.args[0], ast.Starred)]
    if not found or not source.mentions(r"import torch\n"):
        return None
    test = next((c for c in found[1:] if re.search("test|val", source.of(c))), found[1] if len(found) > 1 else None)
    return Handed(found[0], test, not source.mentions(r"nn\.Embedding|Tokenizer"))


def _lines(source: Source, calls: list[ast.Call]) -> tuple[int, ...]:
    return (
        *lines_of(calls),
        *source.lines_with("DataLoader(", "load_", "train_test_split", "in train_loader", "in loader"),
    )


def _inputs(source: Source, text: str, both: bool = True) -> Wound | None:
    """Each dataset's inputs `A` become `text`."""
    handed = _handed(source)
    if handed is None or not handed.continuous:
        return None
    calls = [c for c in (handed.train, handed.test if both else None) if c is not None]
    edits = [source.replace(c.args[0], text.replace("A", f"({source.of(c.args[0])})")) for c in calls]
    return wound(edits, _lines(source, calls))


def _pairs(source: Source, inputs: str, targets: str, *, classes: bool = False) -> Wound | None:
    """The training data's inputs `A` and targets `B` become these texts."""
    handed = _handed(source)
    if handed is None or (classes and not source.calls(*CROSS_ENTROPY)) or len(handed.train.args) != 2:
        return None
    a, b = (f"({source.of(argument)})" for argument in handed.train.args)
    texts = [re.sub(r"\b[AB]\b", lambda m: a if m[0] == "A" else b, text) for text in (inputs, targets)]
    edits = [source.replace(node, text) for node, text in zip(handed.train.args, texts, strict=True)]
    return wound(edits, _lines(source, [handed.train]))


@operator("unnormalized-inputs", "dead-relu", "exploding-gradients", "lr-too-high")
def raw_scale(source: Source) -> Wound | None:
    return _inputs(source, "A * 255")


@operator("unnormalized-inputs", "dead-relu", "lr-too-high")
def one_feature_in_other_units(source: Source) -> Wound | None:
    if source.mentions(r"Conv|LSTM|GRU|images"):
        return None
    return _inputs(source, "A * (1 + 9999 * torch.eye(1, A.shape[1]))")


@operator("unnormalized-inputs", "dead-relu", "lr-too-high")
def scaling_left_out(source: Source) -> Wound | None:
    """Pixels are not divided by their maximum."""
    edits: list[Edit] = []
    lines: list[int] = []
    for node in source.all(ast.BinOp):
        if (
            isinstance(node, ast.BinOp)
            and isinstance(node.op, ast.Div)
            and re.fullmatch(r"16(\.0)?|255(\.0)?", source.of(node.right))
        ):
            edits.append(source.replace(node.right, "0.0625"))
            lines += lines_of([node])
    return wound(edits, (*lines, *source.lines_with("load_digits", "DataLoader(")))


@operator("missing-values", "nan-gradients")
def values_missing(source: Source) -> Wound | None:
    return _inputs(source, 'torch.where(torch.rand_like(A) < 0.002, torch.tensor(float("nan")), A)', both=False)


@operator("degenerate-features", "ignored-input")
def features_constant(source: Source) -> Wound | None:
    """All inputs are lost to one value."""
    return _inputs(source, "A * 0 + 0.5")


@operator("preprocessing-mismatch", "distribution-drift")
def test_scaled_otherwise(source: Source) -> Wound | None:
    handed = _handed(source)
    if handed is None or handed.test is None or not handed.continuous:
        return None
    return wound(source.wrap(handed.test.args[0], "16 * (", ") + 3"), _lines(source, [handed.test]))


@operator("train-test-leakage")
def test_samples_in_training(source: Source) -> Wound | None:
    handed = _handed(source)
    if handed is None or handed.test is None or len(handed.test.args) != len(handed.train.args):
        return None
    edits = [
        source.replace(ours, f"torch.cat([{source.of(ours)}, {source.of(theirs)}])")
        for ours, theirs in zip(handed.train.args, handed.test.args, strict=True)
    ]
    return wound(edits, _lines(source, [handed.train, handed.test]))


@operator("duplicate-samples")
def few_samples_repeated(source: Source) -> Wound | None:
    return _pairs(source, "A[torch.arange(len(A)) % 40]", "B[torch.arange(len(B)) % 40]")


@operator("class-imbalance")
def one_class_left(source: Source) -> Wound | None:
    rare = "(B.flatten() == 0) | (torch.arange(len(B)) % 60 == 0)"
    return _pairs(source, f"A[{rare}]", f"B[{rare}]", classes=True)


@operator("unshuffled-data")
def sorted_by_label(source: Source) -> Wound | None:
    made = _pairs(source, "A[B.flatten().argsort(stable=True)]", "B[B.flatten().argsort(stable=True)]")
    shuffles = [k.value for c in source.calls("DataLoader") for k in c.keywords if k.arg == "shuffle"]
    if made is None or not shuffles:
        return None
    return wound([*made.edits, *(source.replace(s, "False") for s in shuffles)], made.lines)


@operator("misaligned-labels")
def labels_shuffled(source: Source) -> Wound | None:
    return _pairs(source, "A", "B[torch.randperm(len(B), generator=torch.Generator().manual_seed(3))]")


@operator("label-noise", "conflicting-labels")
def four_in_ten_wrong(source: Source) -> Wound | None:
    wrong = "torch.rand(len(B), generator=torch.Generator().manual_seed(4)) < 0.4"
    return _pairs(source, "A", f"torch.where({wrong}, B[torch.randperm(len(B))], B)", classes=True)


@operator("label-encoding", "program-crash")
def labels_begin_at_one(source: Source) -> Wound | None:
    """Ids 1 to C with an output for C + 1 classes, so that output 0 is never used."""
    handed = _handed(source)
    heads = [c for c in source.calls("Linear") if len(c.args) >= 2]
    if handed is None or not source.calls(*CROSS_ENTROPY) or not heads or source.mentions("two heads|TwoHeads|frozen"):
        return None
    datasets = [c for c in (handed.train, handed.test) if c is not None]
    edits = [source.wrap(c.args[-1], "(", ") + 1") for c in datasets]
    flat = [edit for pair in edits for edit in pair]
    flat += source.wrap(heads[-1].args[1], "1 + ", "")
    return wound(flat, (*_lines(source, datasets), *lines_of(heads), *source.lines_with("loss = ")))


@operator("label-encoding", "program-crash", "wrong-output-size")
def ids_out_of_range(source: Source) -> Wound | None:
    """Ids 1 to C with C outputs: the last class has no output."""
    handed = _handed(source)
    if handed is None or not source.calls(*CROSS_ENTROPY):
        return None
    return wound(
        source.wrap(handed.train.args[-1], "(", ") + 1"),
        (*_lines(source, [handed.train]), *source.lines_with("loss = ", "Linear(")),
    )


@operator("unnormalized-targets", "exploding-gradients", "lr-too-low", "lr-too-high")
def targets_in_other_units(source: Source) -> Wound | None:
    handed = _handed(source)
    if not source.calls(*REGRESSION) or source.calls(*CROSS_ENTROPY):
        return None
    if handed is not None and len(handed.train.args) == 2:
        calls = [c for c in (handed.train, handed.test) if c is not None]
        edits = [e for c in calls for e in source.wrap(c.args[-1], "1000 * (", ") + 500")]
        return wound(edits, (*_lines(source, calls), *source.lines_with("loss = ")))
    for name in ("target", "targets", "y", "heights"):
        assigns = [a for a in source.assigns(name) if source.scope(a) is source.tree]
        if assigns:
            return wound([source.behind(assigns[-1], f"{name} = 1000 * {name} + 500")],
                         (*lines_of(assigns[-1:]), *source.lines_with("loss = ")))  # fmt: skip
    return None
