"""Who calls which module from where, within one training step; and what kind of code each module's class is from."""

from __future__ import annotations

import inspect
import re
from typing import Any

from torch import nn
from torch.nn.modules.module import register_module_forward_pre_hook

from doctor.observe.watch import Watch

_MOST_CALLS = 3000


class CallWatch(Watch):
    """The calls of one taped step, in order, and modules that are registered under several names."""

    def install(self) -> None:
        """Before every forward of a module."""
        self._calls: list[list[Any]] = []
        self._step: int | None = None
        self._handle = register_module_forward_pre_hook(self._called)

    def _called(self, module: nn.Module, args: Any) -> None:
        recorder = self.recorder
        tape = recorder.taping.mode
        if tape is None or not tape.keep_ops or recorder.busy or len(self._calls) >= _MOST_CALLS:
            return
        if self._step is None:
            self._step = recorder.step
        if recorder.step == self._step and tape.phase == "forward":
            root, path = recorder.naming.place(module)
            caller = recorder.naming.place(recorder.stack[-2])[1] if len(recorder.stack) > 1 else None
            self._calls.append([root, path, caller, recorder.frames.line()])

    def finish(self) -> None:
        """The calls, the classes and the aliases."""
        self._handle.remove()
        naming = self.recorder.naming
        classes: dict[str, str] = {}
        for index, root in naming.live_roots():
            paths: dict[int, list[str]] = {}
            for path, module in root.named_modules(remove_duplicate=False):
                paths.setdefault(id(module), []).append(path)
                classes.setdefault(f"{index} {path}", self._owner(type(module)))
            for names in paths.values():
                if len(names) > 1:
                    self.recorder.stream.emit(
                        "module-alias", root=index, paths=names[:64], line=self._named_again(root, names)
                    )
        self.recorder.stream.emit("module-calls", step=self._step or 0, calls=self._calls, classes=classes)

    def _named_again(self, root: nn.Module, names: list[str]) -> Any:
        """The line of the constructor on which an attribute gets a module that another attribute holds already."""
        holder, _, first = names[0].rpartition(".")
        second = next((n.rpartition(".")[2] for n in names[1:] if n.rpartition(".")[0] == holder), "")
        if not second.isidentifier() or not first.isidentifier():
            return None
        constructor = type(root.get_submodule(holder)).__init__
        path = self.recorder.frames.name(constructor.__code__.co_filename) if hasattr(constructor, "__code__") else None
        if path is None:
            return None
        try:
            text, start = inspect.getsourcelines(constructor)
        except (OSError, TypeError):
            return None
        assigned = re.compile(rf"\bself\.({first}|{second})\b.*=\s*self\.({first}|{second})\b")
        found = [start + number for number, line in enumerate(text) if assigned.search(line)]
        return [path, found[0], "__init__"] if found else None

    def _owner(self, kind: type[nn.Module]) -> str:
        """`torch` for PyTorch's own classes, `user` for the program's, else the library's name."""
        top = kind.__module__.partition(".")[0]
        if top == "torch":
            return "torch"
        import sys

        source = getattr(sys.modules.get(kind.__module__), "__file__", None)
        if source is None or self.recorder.frames.name(source) is not None:
            return "user"
        return top
