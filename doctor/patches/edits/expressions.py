"""Edits of expressions."""

from __future__ import annotations

from doctor.patches.edits.base import Edit


class RemoveCall(Edit):
    """Leave out a function of one tensor: `f(x, dim=1)`, `x.f()` and `self.f(x)` become `x`.

    `function` is its name in small letters (`softmax`); a module of this kind goes from its Sequential or list.
    `module` is the path of the module, if it is one.
    """

    function: str
    module: str = ""

    def describe(self) -> str:
        return f"{self.function} left out"


class RenameCall(Edit):
    """Compute another function instead: `F.sigmoid(x)`, `nn.Sigmoid()` become `F.relu(x)`, `nn.ReLU()`.

    All of the file's, but for the last element of a Sequential and what a `return` gives out.
    """

    function: str
    replacement: str

    def describe(self) -> str:
        return f"{self.replacement} instead of {self.function}"


class SqueezeOperand(Edit):
    """Take the axis of length 1 from one operand (0: prediction, 1: target) of a loss or a difference."""

    operand: int = 0

    def describe(self) -> str:
        return f"{('prediction', 'target')[self.operand]}.squeeze(1)"


class StayInGraph(Edit):
    """Take away what ends the graph on a line: `.detach()`, `.item()`, `.data`, `.numpy()`, `torch.tensor(...)`;
    with `upstream` also on the lines from which it takes its values.
    """

    upstream: bool = False

    def describe(self) -> str:
        return "nothing between the model and the loss leaves the graph"
