"""Edits: the cure as a change of the user's source, as plain data.

A rule attaches one to its finding (`edit=ReplaceArgument(call=("Adam",), keyword="lr", value=3e-4)`); it is made at the
finding's location. Nothing here imports libcst or torch.
"""

from doctor.patches.edits.arguments import ReplaceArgument
from doctor.patches.edits.base import Edit
from doctor.patches.edits.evaluation import EnterEvalMode, EnterTrainMode
from doctor.patches.edits.expressions import RemoveCall, RenameCall, SqueezeOperand, StayInGraph
from doctor.patches.edits.layers import ActivateBetween, InitialiseRandomly, RegisterModules
from doctor.patches.edits.loop import CallBackward, CallStep, ClearGradients, ClipGradients, DivideLoss, OptimizeModel

__all__ = [
    "ActivateBetween",
    "CallBackward",
    "CallStep",
    "ClearGradients",
    "ClipGradients",
    "DivideLoss",
    "Edit",
    "EnterEvalMode",
    "EnterTrainMode",
    "InitialiseRandomly",
    "OptimizeModel",
    "RegisterModules",
    "RemoveCall",
    "RenameCall",
    "ReplaceArgument",
    "SqueezeOperand",
    "StayInGraph",
]
