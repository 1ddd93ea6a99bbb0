"""Why two outputs differ: each hypothesis changes one thing, and holds when the difference is then gone."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import torch

from doctor.parity import precision
from doctor.parity.difference import Tolerance, agree, compared, difference, worst
from doctor.parity.reference import Reference
from doctor.parity.tensors import Tensors

_CAPTURED = 6  # modules whose inputs are tried
_IMAGENET = ((0.485, 0.456, 0.406), (0.229, 0.224, 0.225))

Run = Callable[[Tensors], Tensors]


@dataclass(frozen=True)
class Hypothesis:
    """What was changed, how far the outputs then still lay apart (root mean square, on the output's scale), and
    whether that is within the tolerance.
    """

    kind: str
    description: str
    rms: float
    holds: bool
    names: tuple[str, ...] = ()


@dataclass(frozen=True)
class Scene:
    """What the hypotheses start from: both sides as functions of the inputs, and their outputs on the sample."""

    reference: Reference
    arguments: Tensors  # under the reference's names
    given: Tensors  # under the artifact's names
    run: Run  # the artifact
    expected: Tensors
    actual: Tensors
    limits: Tolerance


def tried(scene: Scene) -> list[Hypothesis]:
    """All hypotheses in order, until one holds."""
    found: list[Hypothesis] = []
    for attempt in (_swapped_outputs, _swapped_inputs, _preprocessing, _training, _calls):
        for hypothesis in _guarded(attempt, scene):
            found.append(hypothesis)
            if hypothesis.holds:
                return found
    return found


def _guarded(attempt: Callable[[Scene], Iterator[Hypothesis]], scene: Scene) -> Iterator[Hypothesis]:
    try:
        yield from attempt(scene)
    except Exception:  # a hypothesis that cannot be tried is not one
        return


def _judge(
    kind: str, description: str, expected: Tensors, actual: Tensors, limits: Tolerance, names: tuple[str, ...] = ()
) -> Hypothesis:
    found = compared(expected, actual)
    if not found:
        return Hypothesis(kind, description, float("inf"), False, names)
    rms = worst(found).rms
    return Hypothesis(kind, description, rms, all(each.within(limits) for each in found), names)


def _attempted(
    scene: Scene, kind: str, description: str, given: Tensors, names: tuple[str, ...] = ()
) -> Hypothesis | None:
    try:
        return _judge(kind, description, scene.expected, scene.run(given), scene.limits, names)
    except Exception:
        return None


def _swapped_inputs(scene: Scene) -> Iterator[Hypothesis]:
    """Inputs of one shape and dtype under each other's names."""
    names = list(scene.given)
    kind = {name: (tuple(value.shape), value.dtype) for name, value in scene.given.items()}
    for order in itertools.islice(itertools.permutations(names), 720):
        moved = tuple(name for name, other in zip(names, order, strict=True) if name != other)
        if not moved or any(kind[name] != kind[other] for name, other in zip(names, order, strict=True)):
            continue
        given = {name: scene.given[other] for name, other in zip(names, order, strict=True)}
        tried = _attempted(scene, "swapped-inputs", f"inputs {' and '.join(moved)} exchanged", given, moved)
        if tried:
            yield tried


def _swapped_outputs(scene: Scene) -> Iterator[Hypothesis]:
    expected, actual = list(scene.expected), list(scene.actual)
    if len(expected) < 2 or len(expected) != len(actual):
        return
    for order in itertools.islice(itertools.permutations(actual), 1, 720):
        found = [difference(scene.expected[e], scene.actual[a]) for e, a in zip(expected, order, strict=True)]
        holds = all(each.within(scene.limits) for each in found)
        if holds:
            moved = tuple(e for e, a, b in zip(expected, order, actual, strict=True) if a != b)
            text = f"outputs {' and '.join(moved)} exchanged"
            yield Hypothesis("swapped-outputs", text, worst(found).rms, True, moved)
            return


def _preprocessing(scene: Scene) -> Iterator[Hypothesis]:
    """The artifact given what the reference computes of its inputs, or inputs scaled and ordered as is usual."""
    for name, value in scene.given.items():
        for label, changed in (*_captured(scene, name, value), *_usual(value)):
            hypothesis = _attempted(scene, "missing-preprocessing", label, {**scene.given, name: changed}, (name,))
            if hypothesis:
                yield hypothesis
        if not value.is_floating_point():
            continue
        for label, changed in _captured(scene, name, value):  # the other way round: applied twice
            try:
                argument = dict(zip(scene.given, scene.arguments, strict=False))[name]
                twice = scene.reference({**scene.arguments, argument: changed})
            except Exception:
                continue
            yield _judge("double-preprocessing", f"twice: {label}", twice, scene.actual, scene.limits, (name,))


def _captured(scene: Scene, name: str, value: torch.Tensor) -> list[tuple[str, torch.Tensor]]:
    """What the reference's modules get first, as far as it is not the input itself."""
    seen: list[tuple[str, torch.Tensor]] = []

    def note(path: str) -> Any:
        def hook(module: torch.nn.Module, args: tuple[Any, ...]) -> None:
            for each in args[:2]:
                if not isinstance(each, torch.Tensor) or len(seen) >= _CAPTURED:
                    continue
                fits = each.dim() == value.dim() and each.shape[0] == value.shape[0]
                new = not any(torch.equal(each, other) for _, other in seen if other.shape == each.shape)
                if fits and new and not (each.shape == value.shape and torch.equal(each.to(value.dtype), value)):
                    label = f"{name} as the reference's {path} gets it"
                    seen.append((label, each.detach().clone()))

        return hook

    handles = [
        module.register_forward_pre_hook(note(path)) for path, module in scene.reference.model.named_modules() if path
    ]
    try:
        scene.reference(scene.arguments)
    finally:
        for handle in handles:
            handle.remove()
    return seen


def _usual(value: torch.Tensor) -> Iterator[tuple[str, torch.Tensor]]:
    """Scalings and orders that are usual in practice, of float inputs."""
    if not value.is_floating_point() or value.dim() < 2 or not value.numel():
        return
    yield "inputs divided by 255", value / 255
    yield "inputs times 255", value * 255
    yield "inputs from [0, 1] to [-1, 1]", value * 2 - 1
    yield "inputs from [0, 255] to [-1, 1]", value / 127.5 - 1
    for axis, place in ((1, "second"), (value.dim() - 1, "last")):
        if value.dim() >= 3 and value.shape[axis] == 3:
            yield f"channels ({place} axis) in reverse order", value.flip(axis)
            shape = [1] * value.dim()
            shape[axis] = 3
            mean, std = (torch.tensor(part, dtype=value.dtype).reshape(shape) for part in _IMAGENET)
            yield "inputs normalised by ImageNet's mean and deviation", (value - mean) / std
            yield "inputs divided by 255 and normalised by ImageNet's", (value / 255 - mean) / std
    others = [axis for axis in range(value.dim()) if axis != 1]
    mean, std = value.mean(others, keepdim=True), value.std(others, keepdim=True).clamp_min(1e-8)
    if value.shape[0] >= 4:
        yield "features standardised by the sample's own mean and deviation", (value - mean) / std
    if bool((value > -1).all()):
        yield "log(1 + inputs)", value.log1p()
    norm = value.norm(dim=-1, keepdim=True).clamp_min(1e-12)
    yield "rows scaled to length 1", value / norm
    if value.dim() == 4:
        yield "axes from NHWC to NCHW", value.permute(0, 3, 1, 2).contiguous()
        yield "height and width exchanged", value.transpose(2, 3).contiguous()


def _training(scene: Scene) -> Iterator[Hypothesis]:
    """The reference in training mode, which is what a train-mode export computes (where nothing is random)."""
    model = scene.reference.variant().train()
    for module in model.modules():
        if "Dropout" in type(module).__name__:
            module.eval()
    yield _judge(
        "train-mode-export",
        "the reference in training mode",
        scene.reference(scene.arguments, model),
        scene.actual,
        scene.limits,
    )


def _calls(scene: Scene) -> Iterator[Hypothesis]:
    """Reductions at the end: the artifact gives probabilities where the reference gives logits, or the reverse."""
    names = list(scene.expected)
    for label, change in (
        ("softmax of the reference's outputs", lambda value: value.softmax(-1)),
        ("log-softmax of the reference's outputs", lambda value: value.log_softmax(-1)),
        ("sigmoid of the reference's outputs", lambda value: value.sigmoid()),
        ("largest index of the reference's outputs", lambda value: value.argmax(-1)),
        ("transposed outputs", lambda value: value.transpose(-1, -2)),
    ):
        first = scene.expected[names[0]]
        if not first.is_floating_point() or first.dim() < 2:
            return
        changed = {**scene.expected, names[0]: change(first)}
        yield _judge("output-activation", label, changed, scene.actual, scene.limits)


@dataclass(frozen=True)
class WeightCheck:
    """The artifact's weights against the reference's: how many tensors differ by more than their precision, how many
    lie on a grid of few values, and whether the reference agrees with the artifact once it has its weights.
    """

    compared: int = 0
    differing: int = 0
    on_grid: int = 0
    rms: float = 0.0  # root mean square of the weights' difference, relative
    explains: bool | None = None
    exchanged: tuple[str, str] | None = None
    differing_names: tuple[str, ...] = ()
    constants: bool = False  # only buffers differ that are no running statistics: constants of preprocessing


def weights(scene: Scene, tensors: Mapping[str, torch.Tensor], lowest: str) -> WeightCheck | None:
    """Compare the weights by name, whatever stands before it in the artifact; None where fewer than half of the
    reference's are found.
    """
    own = {key: value for key, value in scene.reference.model.state_dict().items() if value.is_floating_point()}
    named = _named_alike(own, tensors)
    theirs = {
        key: (value.dequantize() if value.is_quantized else value).to(own[key].dtype)
        for key, value in named.items()
        if value.shape == own[key].shape
    }
    if len(theirs) < 0.5 * len(own) or not theirs:
        return None
    bound = {"float32": 1e-6, "float64": 1e-6, "float16": 2e-3, "bfloat16": 2e-2, "int8": 5e-2, "int4": 0.4}[lowest]
    apart = {}
    for key, value in theirs.items():
        size = own[key].norm().clamp_min(1e-12)
        apart[key] = ((value - own[key]).norm() / size).item()
    buffers = {name for name, _ in scene.reference.model.named_buffers()}
    constants = {name for name in buffers if "running_" not in name}
    differing = tuple(key for key, distance in apart.items() if not distance <= bound)
    rms = (sum(distance**2 for distance in apart.values()) / len(apart)) ** 0.5
    explains: bool | None = None
    if len(theirs) == len(own):
        model = scene.reference.variant()
        model.load_state_dict(theirs, strict=False)
        explains = agree(scene.reference(scene.arguments, model), scene.actual, scene.limits)
    if not explains and (own_constants := {key: theirs[key] for key in differing if key in constants}):
        # Other weights may be rewritten by an exporter that folds layers: do the constants alone explain it?
        model = scene.reference.variant()
        model.load_state_dict(own_constants, strict=False)
        if agree(scene.reference(scene.arguments, model), scene.actual, scene.limits):
            explains, differing = True, tuple(own_constants)
    return WeightCheck(
        compared=len(theirs),
        differing=len(differing),
        on_grid=sum(precision.on_grid(theirs[key]) for key in differing),
        rms=rms,
        explains=explains,
        exchanged=_exchanged(own, theirs, differing),
        differing_names=differing[:12],
        constants=bool(differing) and all(key in constants for key in differing),
    )


def _named_alike(own: Mapping[str, torch.Tensor], tensors: Mapping[str, torch.Tensor]) -> Mapping[str, torch.Tensor]:
    """The artifact's tensors by the reference's names; those of a wrapped model have a prefix, which is the same for
    all.
    """
    prefixes = {""} | {name.removesuffix(key) for key in list(own)[:4] for name in tensors if name.endswith(f".{key}")}
    best = max(prefixes, key=lambda prefix: sum(prefix + key in tensors for key in own))
    return {key: tensors[best + key] for key in own if best + key in tensors}


def _exchanged(
    own: Mapping[str, torch.Tensor], theirs: Mapping[str, torch.Tensor], differing: tuple[str, ...]
) -> tuple[str, str] | None:
    """Two tensors that hold each other's values."""
    for one, other in itertools.combinations(differing[:64], 2):
        if (
            own[one].shape == own[other].shape
            and torch.allclose(theirs[one], own[other])
            and torch.allclose(theirs[other], own[one])
        ):
            return one, other
    return None
