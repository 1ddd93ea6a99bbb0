"""Layers that training never reached."""

from __future__ import annotations

import math
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass

from doctor.evidence.reference_model import ReferenceModel
from doctor.evidence.weight_stats import TensorStats, WeightStats
from doctor.findings import Finding, Location, Measure, Severity
from doctor.registry import Limits, check


class UntrainedLimits(Limits):
    """Thresholds of WGT005."""

    smallest: int = 64  # values of a weight below which its distribution says little
    beyond: float = 1.15  # largest weight of a trained layer by its initial bound: a few steps stay below it
    norm_spread: float = 0.02  # standard deviation of a trained normalisation layer's weights around 1
    dead: int = 64  # values of a matrix that is all zeros
    most: int = 10


@dataclass(frozen=True)
class _Layer:
    prefix: str
    weight: TensorStats
    bias: TensorStats | None
    bound: float  # of the uniform distribution that torch.nn.Linear and Conv draw from

    @property
    def initial(self) -> bool:
        """Weight and bias are both as drawn."""
        if not self.weight.uniform_within(self.bound):
            return False
        return self.bias is None or (not self.bias.constant and self.bias.largest <= self.bound * 1.001)

    def moved(self, beyond: float) -> bool:
        """Drawn so, and then trained well: values lie beyond the bound by this factor, and the bias is no constant."""
        spread = self.weight.std / (self.bound / math.sqrt(3))
        far = beyond < self.weight.largest / self.bound < 20 and 0.8 < spread < 6
        return far and self.bias is not None and not self.bias.constant


@check(
    "WGT005",
    "untrained-layer",
    Severity.WARNING,
    faq=("deployment/parameters/incorrect", "deployment/parameters/missing"),
)
def untrained_layer(
    weights: WeightStats, reference: ReferenceModel | None, limits: UntrainedLimits
) -> Iterator[Finding]:
    """A layer is still as it was drawn before training, or all zeros, while others were trained.

    ## What it measures
    `torch.nn.Linear` and `Conv` draw weight and bias uniformly within ±1/sqrt(fan_in). A layer is called untrained when
    no weight lies beyond, the largest is as near to the bound as that of so many draws, mean, variance and quantiles
    agree, the bias lies within, and another layer of the file has left its own bound by 15 %. Of n weights that move by a share
    d of the bound, about n·d/2 would lie beyond. Recurrent layers draw within ±1/sqrt(hidden). Also a layer whose bias
    is exactly zero, unlike those of at least 70 % of the others, and whose weights lie as a usual initialisation draws
    them (normal of 0.02, Glorot, He). Dead: a matrix of zeros only.
    ## Why it hurts
    A head at its initial values answers at random: the training code made it anew, or the optimizer never had it.
    ## Example
    ```python
    model.load_state_dict(torch.load("backbone.pt"), strict=False)  # the head is not in the file
    torch.save(model.state_dict(), "model.pt")
    ```
    ## Use instead
    ```python
    missing, unexpected = model.load_state_dict(torch.load("model.pt"), strict=False)
    assert not missing and not unexpected
    ```
    ## When it is right
    Random projections and reservoirs are not meant to be trained; a model that is wholly untrained is told as info.
    The B matrix of a fresh LoRA adapter and zero-initialised gates are zeros by design.
    ## References
    torch.nn.Linear, torch.nn.init.kaiming_uniform_ with a=sqrt(5).
    """
    layers = [layer for layer in _layers(weights) if layer.weight.count >= limits.smallest]
    initial = [layer for layer in layers if layer.initial]
    trained = [layer for layer in layers if layer.moved(limits.beyond)] + [None] * _trained_norms(
        weights, limits.norm_spread
    )
    if initial and trained:
        # Where the reference's own weights are trained, they are the measure: see untrained_against_reference.
        known = reference.aligned(weights.named()) if reference is not None else {}
        judged = {own for name, own in known.items() if reference is not None and name in reference.compared}
        for layer in [layer for layer in initial if layer.weight.name not in judged][: limits.most]:
            weight = layer.weight
            yield Finding(
                message=f"its {weight.count} weights are uniform within ±{layer.bound:.4g}, as torch.nn draws them "
                f"before training; {len(trained)} other layers were trained",
                location=Location(path=weight.file, tensor=weight.name, module=layer.prefix or None),
                measured={
                    "largest": Measure(value=weight.largest, threshold=layer.bound),
                    "std": Measure(value=weight.std, threshold=layer.bound / math.sqrt(3)),
                },
                remedy="load the trained layer, or train it: see that the optimizer has its parameters",
            )
    elif len(initial) >= 2 and len(initial) == len(layers):
        yield Finding(
            message=f"all {len(layers)} layers are as torch.nn draws them: nothing was trained",
            severity=Severity.INFO,
            location=Location(path=initial[0].weight.file, tensor=initial[0].weight.name),
            measured={"layers": Measure(value=len(initial), threshold=0)},
            remedy="export the trained model",
        )
    for layer, words in _fresh_heads(layers, weights)[: limits.most]:
        yield Finding(
            message=f"its {layer.weight.count} weights are {words} and its bias is all zeros, as before training; the "
            "other layers' biases are not",
            location=Location(path=layer.weight.file, tensor=layer.weight.name, module=layer.prefix or None),
            measured={"std": Measure(value=layer.weight.std), "bias": Measure(value=0.0)},
            remedy="load the trained layer, or train it: see that the optimizer has its parameters",
        )
    dead = [
        tensor
        for tensor in weights.weights
        if len(tensor.shape) >= 2 and tensor.count >= limits.dead and tensor.floating and tensor.holds_only(0.0)
    ]
    for tensor in dead[: limits.most]:
        harmless = any(word in tensor.name.lower() for word in _ZEROS) or len(tensor.shape) > 5
        yield Finding(
            message=f"all {tensor.count} values are zero",
            severity=Severity.INFO if harmless or not tensor.name.endswith("weight") else None,
            location=Location(path=tensor.file, tensor=tensor.name),
            measured={"zeros": Measure(value=tensor.count, threshold=0)},
            remedy="see whether the layer was exported before it was filled, or died in training",
        )


_ZEROS = ("lora", "adapter", "adaln", "ada_ln", "zero", "gate", "pos", "mask", "cache", "state", "hidden", "memory")


def _layers(weights: WeightStats) -> Iterator[_Layer]:
    named = weights.named()
    for name, weight in named.items():
        bound = weights.initial_bound(weight)
        if bound is not None and weight.floating and not weight.non_finite:
            prefix = name.rpartition(".")[0]
            yield _Layer(prefix, weight, _bias(name, named), bound)


def _bias(name: str, named: Mapping[str, TensorStats]) -> TensorStats | None:
    """The bias of a layer by its weight's name: beside it, or where an ONNX exporter puts that of a folded Conv."""
    number = re.fullmatch(r"onnx::Conv_(\d+)", name)
    names = (name.removesuffix("weight") + "bias", f"{name}_bias", f"onnx::Conv_{int(number[1]) + 1}" if number else "")
    return next((named[other] for other in names if other in named and other != name), None)


def _fresh_heads(layers: list[_Layer], weights: WeightStats) -> list[tuple[_Layer, str]]:
    """Layers whose bias is all zeros, while nearly every other layer's is not, and whose weights lie as one of the usual
    initialisations draws them.
    """
    biases = [tensor for name, tensor in weights.named().items() if name.endswith("bias") and tensor.count > 1]
    moved = [bias for bias in biases if not bias.constant]
    if len(moved) < 2 or len(moved) < 0.7 * len(biases):
        return []
    found = []
    for layer in layers:
        if layer.bias is None or not layer.bias.holds_only(0.0) or layer.weight.count < 256:
            continue
        fan_in, fan_out = round(layer.bound**-2), layer.weight.shape[0]
        for words, fits in (
            ("normal of deviation 0.02", layer.weight.normal_with(0.02)),
            ("Glorot uniform", layer.weight.uniform_within(math.sqrt(6 / (fan_in + fan_out)))),
            ("Glorot normal", layer.weight.normal_with(math.sqrt(2 / (fan_in + fan_out)))),
            ("He normal", layer.weight.normal_with(math.sqrt(2 / fan_in))),
            ("He uniform", layer.weight.uniform_within(math.sqrt(6 / fan_in))),
            ("uniform as torch.nn draws", layer.weight.uniform_within(layer.bound)),
        ):
            if fits:
                found.append((layer, words))
                break
    return found


def _trained_norms(weights: WeightStats, spread: float) -> int:
    """Normalisation layers whose weight has left 1, each element its own way."""
    named = weights.named()
    return sum(
        1
        for name, tensor in named.items()
        if len(tensor.shape) == 1
        and name.endswith(("weight", "gamma"))
        and not tensor.constant
        and tensor.count > 1
        and 0.3 < tensor.mean < 3
        and spread < tensor.std < 0.5 * tensor.mean
    )
