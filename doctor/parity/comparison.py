"""The artifact's outputs against the reference's on the sample, and why they differ."""

from __future__ import annotations

from dataclasses import asdict

import torch

from doctor.parity import hypotheses
from doctor.parity.backends import WeightsBackend
from doctor.parity.bench import Bench, attempt, described, recorded
from doctor.parity.difference import compared
from doctor.parity.tensors import Tensors


def compare(bench: Bench, expected: Tensors, actual: Tensors) -> None:
    """Compare the outputs on the sample; where they differ, look for the reason."""
    reference = bench.reference
    assert reference is not None
    found = compared(expected, actual)
    bench.scales = {each.output: each.scale for each in found}
    fine = bool(found) and all(each.within(bench.limits) for each in found)
    bench.emit(
        "sample",
        outputs=described(actual),
        expected=described(expected),
        differences=recorded(found),
        within=fine,
        names_agree=set(actual) <= set(expected),
    )
    if _related(bench, actual):
        return
    if not fine and not reference.settled:
        _transplant(bench, actual)
    elif not fine:
        _explain(bench, expected, actual)


def _related(bench: Bench, actual: Tensors) -> bool:
    """Whether the given inputs are the reference's own samples in other units. Tells what the artifact makes of
    them: what the reference makes of its own says that the conversion is in the artifact.
    """
    reference, where = bench.reference, bench.where
    own = reference.samples() if reference is not None and bench.job.get("inputs") else None
    if reference is None or not own:
        return False
    relation = next(filter(None, (related(where.arguments.get(name), value) for name, value in own.items())), None)
    if relation is None:
        return False
    expected, _ = attempt(lambda: reference(own))
    if expected is None:
        return False
    fine = all(each.within(bench.limits) for each in compared(expected, actual))
    bench.emit("related", description=relation, within=fine, differences=recorded(compared(expected, actual)))
    return fine


def _scene(bench: Bench, expected: Tensors, actual: Tensors) -> hypotheses.Scene:
    assert bench.reference is not None
    where = bench.where
    return hypotheses.Scene(
        bench.reference, where.arguments, where.given, bench.backend, expected, actual, bench.limits
    )


def _explain(bench: Bench, expected: Tensors, actual: Tensors) -> None:
    scene = _scene(bench, expected, actual)
    weights, _ = attempt(lambda: hypotheses.weights(scene, bench.backend.weights(), bench.limits.precision))
    if weights is not None:
        bench.emit("weights", **asdict(weights))
    if isinstance(bench.backend, WeightsBackend):
        return  # nothing but the weights can differ
    if weights is None or not weights.explains:
        for hypothesis in hypotheses.tried(scene):
            bench.emit("hypothesis", **asdict(hypothesis))


def _transplant(bench: Bench, actual: Tensors) -> None:
    """The reference's weights are a fresh initialisation: take the artifact's, where it names them alike."""
    assert bench.reference is not None
    own = bench.reference.model.state_dict()
    theirs = bench.backend.weights()
    fitting = {key: theirs[key] for key in own if key in theirs and theirs[key].shape == own[key].shape}
    lacking = [key for key, value in own.items() if key not in fitting and value.is_floating_point()]
    if lacking or isinstance(bench.backend, WeightsBackend):
        bench.emit("transplant", possible=False, lacking=lacking[:3])
        return
    bench.reference.model.load_state_dict(fitting, strict=False)
    bench.reference.settled = True
    expected = bench.reference(bench.where.arguments)
    found = compared(expected, actual)
    bench.scales = {each.output: each.scale for each in found}
    fine = all(each.within(bench.limits) for each in found)
    bench.emit("transplant", possible=True, differences=recorded(found), within=fine)
    if not fine:
        _explain(bench, expected, actual)


def related(given: torch.Tensor | None, own: torch.Tensor) -> str | None:
    """How the given inputs become the reference's own samples, where that is one factor and offset a channel (or
    feature) other than 1 and 0; None where they are the same, or something else.
    """
    if given is None or given.shape != own.shape or own.dim() < 2 or not own.is_floating_point():
        return None
    x, y = given.double(), own.double()
    if torch.allclose(x, y, rtol=1e-3, atol=1e-5):
        return None
    axis = 1 if x.dim() != 3 else 2
    flat_x, flat_y = (part.movedim(axis, 0).reshape(x.shape[axis], -1) for part in (x, y))
    if flat_x.shape[1] < 4:
        return None
    factors, offsets = [], []
    for one, other in zip(flat_x, flat_y, strict=True):
        spread = one.var(correction=0)
        if spread < 1e-12:
            if other.var(correction=0) > 1e-9:
                return None
            continue
        factor = ((one - one.mean()) * (other - other.mean())).mean() / spread
        offset = other.mean() - factor * one.mean()
        rest = (factor * one + offset - other).square().mean()
        if rest > 1e-4 * other.var(correction=0).clamp_min(1e-12):
            return None
        factors.append(factor.item())
        offsets.append(offset.item())
    if not factors:
        return None
    return (
        f"factor {min(factors):.4g} to {max(factors):.4g}, offset {min(offsets):.4g} to {max(offsets):.4g}, by channel"
        if len(factors) > 1
        else f"factor {factors[0]:.4g}, offset {offsets[0]:.4g}"
    )
