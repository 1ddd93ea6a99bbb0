"""Tapes of real computations, without a program around them."""

import sys

import pytest
import torch

from doctor.evidence.axes import tensor_axes
from doctor.evidence.op_tape import op_tape
from doctor.evidence.recording import Recording
from doctor.observe.tape import TapeMode


class Taped:
    """What the rules read of one computation: `tape`, `axes`, and `here`, the line that ends with `# here`."""

    def __init__(self, compute, modules):
        names = {id(p): f"{name}.{own}" for name, m in modules.items() for own, p in m.named_parameters()}
        running = []
        handles = []
        for name, module in modules.items():
            place = (name, type(module).__name__)
            handles.append(module.register_forward_pre_hook(lambda m, args, place=place: running.append(place)))
            handles.append(module.register_forward_hook(lambda m, args, out: running.pop() and None))

        def context():
            frame = sys._getframe(1)
            while frame is not None and not frame.f_code.co_filename.startswith(compute.__code__.co_filename):
                frame = frame.f_back
            line = [compute.__code__.co_filename, frame.f_lineno, frame.f_code.co_name] if frame else None
            module, kind = running[-1] if running else ("", "Net")
            return {"line": line, "root": 0, "module": module, "kind": kind}

        mode = TapeMode(context, lambda tensor: names.get(id(tensor), f"<{id(tensor)}>"), values=False)
        with mode:
            loss = compute()
        for handle in handles:
            handle.remove()
        event = {
            "event": "tape",
            "step": 0,
            "ops": mode.ops,
            "loss": mode.tensor_id(loss),
            "truncated": False,
            "origin": None,
        }
        self.tape = op_tape(Recording((event, {"event": "end"})))
        self.axes = tensor_axes(self.tape, None)
        with open(compute.__code__.co_filename, encoding="utf-8") as text:
            marked = [number for number, line in enumerate(text, 1) if line.rstrip().endswith("# here")]
        first = compute.__code__.co_firstlineno
        self.here = next((number for number in marked if number >= first), None)


@pytest.fixture
def taped():
    """Tape a function that computes a loss; modules by name, so that their parameters are known."""

    def tape(compute, **modules):
        torch.manual_seed(0)
        return Taped(compute, modules)

    return tape
