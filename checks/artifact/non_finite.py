"""Numbers in the weights that are none, or that the type cannot hold."""

from __future__ import annotations

from collections.abc import Iterator

from doctor.evidence.weight_stats import TensorStats, WeightStats
from doctor.findings import Finding, Location, Measure, Severity
from doctor.registry import Limits, check

_NARROW = ("float16", "float8_e5m2", "float8_e4m3fn", "float8_e4m3fnuz", "float8_e5m2fnuz")
_INTEGERS = {"int8": (-128, 127), "qint8": (-128, 127), "uint8": (0, 255), "quint8": (0, 255)}
_SCALES = ("scale", "scales", "weight_scale", "scale_inv", "weight_scale_inv", "w_scale")


class NonFiniteLimits(Limits):
    """Thresholds of WGT001."""

    most: int = 10  # tensors told one by one


@check(
    "WGT001",
    "nan-weights",
    Severity.ERROR,
    faq="deployment/parameters/incorrect",
)
def nan_weights(weights: WeightStats, limits: NonFiniteLimits) -> Iterator[Finding]:
    """Weights are NaN or infinite.

    ## What it measures
    The number of NaN and infinite values of every tensor; all values are read. Infinities of types of 16 and 8 bits are
    WGT002, since they come from the conversion. Infinite entries of buffers that are masks (`-inf` and 0) are right.
    ## Why it hurts
    One NaN reaches every output that depends on it, and most of them do; a server answers NaN, or the class 0.
    ## Example
    ```python
    loss.backward()  # NaN at step 81 400
    optimizer.step()
    torch.save(model.state_dict(), "last.pt")
    ```
    ## Use instead
    ```python
    if all(p.isfinite().all() for p in model.parameters()):
        torch.save(model.state_dict(), "last.pt")
    ```
    ## When it is right
    Attention masks kept as buffers hold `-inf`; they are recognised by holding 0 besides and nothing else. A single
    infinite number is a constant of the graph, such as where a maximum begins.
    ## References
    IEEE 754-2019.
    """
    sick = [tensor for tensor in weights.tensors if tensor.non_finite and _hurts(tensor)]
    for index, tensor in enumerate(sick[: limits.most]):
        kinds = [f"{tensor.nan} NaN"] * (tensor.nan > 0) + [f"{tensor.infinite} infinite"] * (tensor.infinite > 0)
        more = f"; {len(sick) - limits.most} more tensors" if index == limits.most - 1 < len(sick) - 1 else ""
        yield Finding(
            message=f"{' and '.join(kinds)} of {tensor.count} values{more}",
            severity=Severity.WARNING if tensor.role == "other" else None,
            location=Location(path=tensor.file, tensor=tensor.name),
            measured={"non_finite": Measure(value=tensor.non_finite, threshold=0, unit=f"of {tensor.count}")},
            remedy="go back to the last finite checkpoint; doctor diagnose finds what made the training overflow",
        )


def _hurts(tensor: TensorStats) -> bool:
    if tensor.nan:
        return not (tensor.dtype in _NARROW[1:] and not tensor.infinite and tensor.at_limit)
    if tensor.dtype in _NARROW or tensor.count == 1:  # a single infinity is a constant: where a maximum begins
        return False
    return not (tensor.low == tensor.high == 0.0 and tensor.count > tensor.infinite)  # a mask


class OverflowLimits(Limits):
    """Thresholds of WGT002. Healthy conversions of trained networks saturate no value of 16 bits."""

    saturated_share: float = 0.01  # of values of 8-bit floats at the type's limit; scaled ones have one per block
    clipped_share: float = 0.1  # of quantised integers at either end of their range
    subnormal_share: float = 0.5  # of values of 16 bits below the smallest normal number
    most: int = 10


@check(
    "WGT002",
    "dtype-overflow",
    Severity.ERROR,
    faq="deployment/parameters/incorrect",
    faults=("dtype-overflow", "quantization-error"),
)
def dtype_overflow(weights: WeightStats, limits: OverflowLimits) -> Iterator[Finding]:
    """Values did not fit into the type that they were converted to.

    ## What it measures
    Infinite values in 16- and 8-bit floats, values exactly at the type's largest number, quantised integers at the ends
    of their range (`clipped_share`), scales that are zero, negative or not finite, and 16-bit weights that are mostly
    below the smallest normal number (6.1e-5), where half of the digits are gone.
    ## Why it hurts
    An overflown weight is wrong by any factor; the validation ran in float32 and saw nothing.
    ## Example
    ```python
    state = {name: value.half() for name, value in model.state_dict().items()}  # a running variance of 81 200
    ```
    ## Use instead
    ```python
    state = {name: value.half() if value.abs().max() < 6e4 else value for name, value in model.state_dict().items()}
    ```
    ## When it is right
    Masks hold the lowest number of their type on purpose: a tensor of 0 and that number only is left out.
    ## References
    IEEE 754-2019 (binary16); Micikevicius et al., "FP8 Formats for Deep Learning" (2022).
    """
    by_name = weights.named()
    told = 0
    for tensor in weights.weights:
        for message, label, measure, severity in _troubles(tensor, by_name, limits):
            told += 1
            if told <= limits.most:
                yield Finding(
                    message=message,
                    severity=severity,
                    location=Location(path=tensor.file, tensor=tensor.name),
                    measured={label: measure},
                    remedy="keep this tensor in float32 or bfloat16, or scale it before the conversion",
                    faults=(label,),
                )


Trouble = tuple[str, str, Measure, Severity | None]


def _troubles(tensor: TensorStats, by_name: dict[str, TensorStats], limits: OverflowLimits) -> Iterator[Trouble]:
    masked = tensor.high <= 0.0 and len(set(tensor.quantiles)) <= 3
    share = tensor.at_limit / max(1, tensor.count)
    if tensor.dtype in _NARROW:
        if tensor.infinite and tensor.count > 1 and not (tensor.low == tensor.high == 0.0):
            message = f"{tensor.infinite} of {tensor.count} values are infinite in {tensor.dtype}"
            yield message, "dtype-overflow", Measure(value=tensor.infinite, threshold=0), None
        elif tensor.nan and tensor.dtype != "float16" and tensor.at_limit:
            message = f"{tensor.nan} of {tensor.count} values are NaN in {tensor.dtype}, which has no infinity"
            yield message, "dtype-overflow", Measure(value=tensor.nan, threshold=0), None
        elif tensor.at_limit and not masked and (tensor.dtype == "float16" or share > limits.saturated_share):
            message = f"{tensor.at_limit} of {tensor.count} values are the largest that {tensor.dtype} holds"
            yield message, "dtype-overflow", Measure(value=tensor.at_limit, threshold=0), None
    small = tensor.subnormal_share > limits.subnormal_share and len(tensor.shape) >= 2  # a bias may be near zero
    if tensor.dtype == "float16" and small and tensor.count >= 64:
        message = f"{tensor.subnormal_share:.0%} of the values are below 6.1e-5, where float16 loses digits"
        measure = Measure(value=round(tensor.subnormal_share, 3), threshold=limits.subnormal_share)
        yield message, "quantization-error", measure, Severity.WARNING
    base, _, last = tensor.name.rpartition(".")
    if last in _SCALES or last.endswith(("_scale", "_scales")):
        yield from _scale(tensor, base, by_name)
    if tensor.dtype in _INTEGERS and tensor.count >= 256 and _quantised(tensor, by_name):
        low, high = _INTEGERS[tensor.dtype]
        ends = sum(q in (low, high, low + 1) for q in tensor.quantiles) / max(1, len(tensor.quantiles))
        if ends - 2 / 33 > limits.clipped_share:
            message = f"about {ends - 2 / 33:.0%} of the quantised values are at an end of the range of {tensor.dtype}"
            measure = Measure(value=round(ends - 2 / 33, 3), threshold=limits.clipped_share)
            yield message, "quantization-error", measure, None


def _scale(tensor: TensorStats, base: str, by_name: dict[str, TensorStats]) -> Iterator[Trouble]:
    family = [other for name, other in by_name.items() if name.startswith(base) and other is not tensor]
    if not any(other.dtype in _INTEGERS or other.dtype.startswith(("float8", "int32", "q")) for other in family):
        return
    if tensor.low <= 0.0 and tensor.floating:
        message = f"the smallest scale of the quantised weights is {tensor.low:.3g}"
        yield message, "quantization-error", Measure(value=tensor.low, threshold=0), None


def _quantised(tensor: TensorStats, by_name: dict[str, TensorStats]) -> bool:
    base = tensor.name.rpartition(".")[0] or tensor.name.removesuffix("_quantized")
    return tensor.dtype.startswith("q") or any(
        name.startswith(base) and "scale" in name.removeprefix(base) for name in by_name
    )
