"""The models: modules in definition order, their settings, their parameters and how those started and moved."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from doctor.evidence.base import Evidence, Source
from doctor.evidence.recording import Recording, source
from doctor.probes import probe


@dataclass(frozen=True)
class ModuleRecord:
    """One module.

    `path` is its qualified name below its root (`layer1.0.conv`, `""` for the root itself), `root` the index of
    the root. `kind` is the class name, `settings` the plain attributes worth knowing (in_features, p, eps, dim ...).
    `calls` counts forwards in the observed run, `training_calls` those with gradients enabled.
    `created` is the user's line on which it was constructed, `authored` whether it is the user's own code that put it
    where it is (false for the layers inside a model of a library); `wanted` is the line of a constructor that had a
    function make it.
    """

    path: str
    kind: str
    root: int = 0
    settings: Mapping[str, float | str | bool | None] = field(default_factory=dict)
    parameters: int = 0
    calls: int = 0
    training_calls: int = 0
    created: Source | None = None
    builtin: bool = True
    authored: bool = True
    wanted: Source | None = None


@dataclass(frozen=True)
class ParameterRecord:
    """One registered parameter, or a leaf tensor of the loss graph outside every module (`registered` False).

    Statistics are those before the first step. `equal_units` is true when all rows (output units) hold the same
    values, with at least two rows; `still_equal_units` says the same of the last observed step.
    `reached` counts the sampled backwards whose graph contains the parameter, of `backwards_sampled`.
    `moved` is |last - first| / |first| (infinite when it started at zero and moved), None when never stepped.
    """

    name: str
    shape: tuple[int, ...]
    root: int | None = 0
    module: str = ""
    module_kind: str = ""
    registered: bool = True
    requires_grad: bool = True
    optimizer: int | None = None
    mean: float = 0.0
    std: float = 0.0
    zero_share: float = 0.0
    equal_units: bool = False
    still_equal_units: bool = False
    finite: bool = True
    reached: int = 0
    backwards_sampled: int = 0
    moved: float | None = None
    tied_to: str | None = None
    created: Source | None = None
    # the user's own call of nn.init for it, where there is one
    initialised: Source | None = None

    @property
    def numel(self) -> int:
        """Number of elements."""
        count = 1
        for length in self.shape:
            count *= length
        return count


@dataclass(frozen=True)
class RootRecord:
    """A module that the user calls directly and that is part of no other."""

    index: int
    kind: str
    parameters: int
    trainable: int
    created: Source | None = None
    forwards: int = 0
    # the root during whose forward this one is called, though it is no part of it: hidden in a list, say
    inside: int | None = None


@dataclass(frozen=True)
class ModuleTree(Evidence):
    """All roots with their modules and parameters."""

    roots: tuple[RootRecord, ...] = ()
    modules: tuple[ModuleRecord, ...] = ()
    parameters: tuple[ParameterRecord, ...] = ()

    def module(self, path: str, root: int = 0) -> ModuleRecord | None:
        """The module at this path."""
        return next((m for m in self.modules if m.path == path and m.root == root), None)

    def children(self, path: str, root: int = 0) -> tuple[ModuleRecord, ...]:
        """The modules anywhere below this path."""
        prefix = f"{path}." if path else ""
        return tuple(m for m in self.modules if m.root == root and m.path.startswith(prefix) and m.path != path)


@probe
def module_tree(recording: Recording) -> ModuleTree:
    """Read roots, modules and parameters."""
    roots = tuple(
        RootRecord(
            index=event["index"],
            kind=event["kind"],
            parameters=event["parameters"],
            trainable=event["trainable"],
            created=source(event["created"]),
            forwards=sum(entry["forwards"] for entry in recording.of("entry") if entry["root"] == event["index"]),
            inside=event["inside"],
        )
        for event in recording.some("root", "the program built no model")
    )
    modules = tuple(
        ModuleRecord(
            path=event["path"],
            kind=event["kind"],
            root=event["root"],
            settings=event["settings"],
            parameters=event["parameters"],
            calls=event["calls"],
            training_calls=event["training_calls"],
            created=source(event["created"]),
            builtin=event["builtin"],
            authored=event.get("authored", True),
            wanted=source(event.get("wanted")),
        )
        for event in recording.of("module")
    )
    return ModuleTree(roots, modules, tuple(_parameter(event) for event in recording.of("parameter")))


def _parameter(event: dict[str, Any]) -> ParameterRecord:
    plain = (
        "name", "root", "module", "module_kind", "registered", "requires_grad", "optimizer", "mean", "std", "zero_share",
        "equal_units", "still_equal_units", "finite", "reached", "backwards_sampled", "moved",
    )  # fmt: skip
    return ParameterRecord(
        shape=tuple(event["shape"]),
        created=source(event["created"]),
        initialised=source(event["initialised"]),
        **{name: event[name] for name in plain},
    )
