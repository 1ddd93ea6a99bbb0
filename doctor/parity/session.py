"""All experiments with one artifact, from the cheap to the costly; each result is handed on as soon as it is known."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict
from typing import Any

import torch

from doctor.parity import aligned, comparison, experiments, inputs, precision
from doctor.parity.aligned import Alignment
from doctor.parity.backends import LoadError, WeightsBackend, opened
from doctor.parity.bench import Bench, Emit, attempt, described
from doctor.parity.difference import tolerance
from doctor.parity.reference import Reference
from doctor.parity.tensors import Tensors, dtype_name

_SEED = 20240229


def run(job: dict[str, Any], emit: Emit, reference: Reference | None = None) -> None:
    """Run the experiments of a job; `emit(section, **data)` takes the results."""
    torch.set_num_threads(1)
    if reference is not None:
        emit(
            "reference",
            settled=reference.settled,
            names=reference.names,
            required=reference.required,
            file=reference.file,
        )
    try:
        backend = opened(job["path"], job["kind"], reference, trust=job["trust"], state=job.get("state", ()))
    except LoadError as failure:
        emit("load", error=str(failure))
        return
    if isinstance(backend, WeightsBackend):
        emit("load", backend=backend.name, whole=backend.whole, keys=len(backend.missing + backend.mismatched))
    else:
        emit("load", backend=backend.name, whole=None)
    _examine(Bench(job, emit, reference, backend))


def _examine(bench: Bench) -> None:
    """All experiments that the subject allows."""
    sample = _sample(bench)
    if sample is None:
        return
    reference = bench.reference
    backend = bench.backend
    bench.where = where = aligned.align(
        sample, backend.inputs, reference, by_name=backend.named, optional=backend.optional
    )
    where.given, changed = aligned.cast(where.given, bench.ports)
    bench.axes = aligned.batch_axes(where.given, bench.ports)
    _emit_alignment(bench, changed)
    expected = _expected(bench, where)
    if where.missing:
        return
    actual, failure = attempt(lambda: bench.backend(where.given))
    own = _float_of(bench.backend.weights())
    if actual is None and (others := _of_other_precision(where.given, own)):
        given = _in_precision(where.given, own)
        actual, _ = attempt(lambda: bench.backend(given))
        if actual is not None:
            changed |= {name: (dtype_name(where.given[name]), dtype_name(given[name])) for name in others}
            where.given = given
            _emit_alignment(bench, changed)
    if actual is None:
        bench.emit("sample", artifact_error=failure)
        if not bench.job.get("inputs"):
            experiments.search_batch(bench, failure)
        return
    _set_tolerance(bench, expected is not None)
    experiments.repeats(bench)
    if expected is not None:
        comparison.compare(bench, expected, actual)
    else:
        bench.emit("sample", outputs=described(actual))
    broken = {name: int((~value.isfinite()).sum()) for name, value in actual.items() if value.is_floating_point()}
    bench.emit("finite", broken={name: count for name, count in broken.items() if count})
    if isinstance(bench.backend, WeightsBackend):
        return  # the reference's own code: other inputs show nothing new
    experiments.batches(bench)
    experiments.alone(bench, actual)
    if expected is not None:
        experiments.changes(bench, expected, actual)
        experiments.lengths(bench)
        experiments.branches(bench)


def _emit_alignment(bench: Bench, changed: dict[str, tuple[str, str]]) -> None:
    where = bench.where
    bench.emit(
        "alignment", renamed=where.renamed, cast=changed, missing=where.missing, surplus=where.surplus,
        batch=bench.batch(where.given),
    )  # fmt: skip


def _sample(bench: Bench) -> Tensors | None:
    found: Tensors | None = None
    if bench.job.get("inputs"):
        try:
            found, named = inputs.read(bench.job["inputs"])
        except inputs.InputsError as failure:
            bench.emit("sample", inputs_error=str(failure))
            return None
        origin = "json" if bench.job["inputs"].endswith(".json") else "file"
    else:
        named, origin = True, "reference"
        found = bench.reference.samples() if bench.reference else None
        if found is None:
            origin = "generated"
            found = inputs.generated(bench.job["inputs_declared"], _SEED) if bench.job["inputs_declared"] else None
    if not found:
        bench.emit("sample", inputs_error="no sample inputs; give --inputs, or sample_inputs() beside the factory")
        return None
    bench.emit("given", ports=described(found), origin=origin, named=named)
    return found


def _expected(bench: Bench, where: Alignment) -> Tensors | None:
    """The reference's outputs; on its own samples where it does not take the given ones."""
    if bench.reference is None:
        return None
    expected: Tensors | None
    expected, failure = attempt(lambda: bench.reference(where.arguments))  # type: ignore[misc]
    own_dtype = _float_of(bench.reference.model.state_dict())
    if expected is None and _of_other_precision(where.arguments, own_dtype):
        where.arguments = _in_precision(where.arguments, own_dtype)
        expected, _ = attempt(lambda: bench.reference(where.arguments))  # type: ignore[misc]
    if expected is None:
        own = bench.reference.samples()
        if own and bench.batch(own) == bench.batch(where.given):
            where.arguments = own
            expected, _ = attempt(lambda: bench.reference(where.arguments))  # type: ignore[misc]
    if expected is None:
        bench.emit("sample", reference_error=failure)
    return expected


def _set_tolerance(bench: Bench, with_reference: bool) -> None:
    lowest = _lowest(bench)
    limits = tolerance(lowest, bench.job.get("tolerance", {}).get(lowest))
    floor = None
    if with_reference and bench.reference is not None:
        floor = precision.floor(bench.reference, bench.where.arguments, lowest)
    bench.limits = limits.widened(floor)
    bench.emit("precision", **asdict(bench.limits), floor=floor.record() if floor else None)


def _lowest(bench: Bench) -> str:
    """The lowest precision of the artifact's weights, nodes and inputs."""
    kinds = [precision.of_weights(bench.backend.weights())]
    kinds += bench.job.get("quantised", [])
    kinds += [port["dtype"] for port in bench.ports.values() if port.get("dtype") in ("float16", "bfloat16")]
    order = ("int4", "int8", "bfloat16", "float16", "float32")
    return next(kind for kind in order if kind in kinds or kind == "float32")


def _float_of(weights: Mapping[str, torch.Tensor]) -> torch.dtype:
    """The dtype of the largest floating tensor."""
    floats = [value for value in weights.values() if value.is_floating_point()]
    return max(floats, key=torch.Tensor.numel).dtype if floats else torch.float32


def _of_other_precision(values: Tensors, dtype: torch.dtype) -> list[str]:
    """The float inputs of another dtype: NumPy makes float64 unasked, and half-precision models are fed float32."""
    return [name for name, value in values.items() if value.is_floating_point() and value.dtype is not dtype]


def _in_precision(values: Tensors, dtype: torch.dtype) -> Tensors:
    return {name: value.to(dtype) if value.is_floating_point() else value for name, value in values.items()}
