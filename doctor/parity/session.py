"""All experiments with one artifact, from the cheap to the costly; each result is handed on as soon as it is known."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import asdict, replace
from typing import Any

import torch

from doctor.parity import aligned, branches, hypotheses, inputs, precision
from doctor.parity.aligned import Alignment
from doctor.parity.backends import Backend, LoadError, OnnxBackend, WeightsBackend, opened
from doctor.parity.difference import Difference, Tolerance, compared, tolerance, worst
from doctor.parity.reference import Reference, ReferenceError
from doctor.parity.tensors import Tensors, dtype_name, rows

BATCHES = (1, 2, 7)
_OTHERS = (1, 2, 3, 5, 6, 7, 8, 10, 12, 16, 20, 24, 32, 64)
_ALONE = 4  # rows that are also run alone
_SEED = 20240229

Emit = Callable[..., None]


def run(job: dict[str, Any], emit: Emit) -> None:
    """Run the experiments of a job; `emit(section, **data)` takes the results."""
    torch.set_num_threads(1)
    try:
        reference = Reference(job["reference"]) if job.get("reference") else None
    except ReferenceError as failure:
        emit("reference", error=str(failure))
        reference = None
    if reference is not None:
        emit(
            "reference",
            settled=reference.settled,
            names=reference.names,
            required=reference.required,
            file=reference.file,
        )
    try:
        backend = opened(job["path"], job["kind"], reference, trust=job["trust"])
    except LoadError as failure:
        emit("load", error=str(failure))
        return
    if isinstance(backend, WeightsBackend):
        emit("load", backend=backend.name, whole=backend.whole, keys=len(backend.missing + backend.mismatched))
    else:
        emit("load", backend=backend.name, whole=None)
    _Session(job, emit, reference, backend).run()


class _Session:
    def __init__(self, job: dict[str, Any], emit: Emit, reference: Reference | None, backend: Backend) -> None:
        self._job, self._emit, self._reference, self._backend = job, emit, reference, backend
        self._ports: dict[str, dict[str, Any]] = {port["name"]: port for port in job["inputs_declared"]}
        self._scales: dict[str, float] = {}
        self._axes: dict[str, int] = {}
        self._limits = tolerance("float32")
        self._where = Alignment()

    def run(self) -> None:
        """All experiments that the subject allows."""
        sample = self._sample()
        if sample is None:
            return
        reference = self._reference
        by_name = self._backend.named
        self._where = where = aligned.align(sample, self._backend.inputs, reference, by_name=by_name)
        where.given, changed = aligned.cast(where.given, self._ports)
        self._axes = aligned.batch_axes(where.given, self._ports)
        self._emit_alignment(changed)
        expected = self._expected(where)
        if where.missing:
            return
        actual, failure = _attempt(lambda: self._backend(where.given))
        if actual is None and _doubles(where.given):  # what NumPy makes unasked: runtimes want float32
            changed |= dict.fromkeys(_doubles(where.given), ("float64", "float32"))
            where.given = _singles(where.given)
            self._emit_alignment(changed)
            actual, failure = _attempt(lambda: self._backend(where.given))
        if actual is None:
            self._emit("sample", artifact_error=failure)
            if not self._job.get("inputs"):
                self._search_batch(failure)
            return
        self._set_tolerance(expected is not None)
        self._repeats()
        if expected is not None:
            self._parity(expected, actual)
        else:
            self._emit("sample", outputs=_ports(actual))
        broken = {name: int((~value.isfinite()).sum()) for name, value in actual.items() if value.is_floating_point()}
        self._emit("finite", broken={name: count for name, count in broken.items() if count})
        if isinstance(self._backend, WeightsBackend):
            return  # the reference's own code: other inputs show nothing new
        self._batches()
        self._alone(actual)
        if expected is not None:
            self._changes(expected, actual)
            self._lengths()
            self._branches()

    def _emit_alignment(self, changed: dict[str, tuple[str, str]]) -> None:
        where = self._where
        self._emit(
            "alignment", renamed=where.renamed, cast=changed, missing=where.missing, surplus=where.surplus,
            batch=self._batch(where.given),
        )  # fmt: skip

    # -- what goes in --------------------------------------------------------------------------------------------------

    def _sample(self) -> Tensors | None:
        found: Tensors | None = None
        if self._job.get("inputs"):
            try:
                found, named = inputs.read(self._job["inputs"])
            except inputs.InputsError as failure:
                self._emit("sample", inputs_error=str(failure))
                return None
            origin = "json" if self._job["inputs"].endswith(".json") else "file"
        else:
            named, origin = True, "reference"
            found = self._reference.samples() if self._reference else None
            if found is None:
                origin = "generated"
                found = inputs.generated(self._job["inputs_declared"], _SEED) if self._job["inputs_declared"] else None
        if not found:
            self._emit("sample", inputs_error="no sample inputs; give --inputs, or sample_inputs() beside the factory")
            return None
        self._emit("given", ports=_ports(found), origin=origin, named=named)
        return found

    def _expected(self, where: Alignment) -> Tensors | None:
        """The reference's outputs; on its own samples where it does not take the given ones."""
        if self._reference is None:
            return None
        expected: Tensors | None
        expected, failure = _attempt(lambda: self._reference(where.arguments))  # type: ignore[misc]
        if expected is None and _doubles(where.arguments):
            where.arguments = _singles(where.arguments)
            expected, _ = _attempt(lambda: self._reference(where.arguments))  # type: ignore[misc]
        if expected is None:
            own = self._reference.samples()
            if own and self._batch(own) == self._batch(where.given):
                where.arguments = own
                expected, _ = _attempt(lambda: self._reference(where.arguments))  # type: ignore[misc]
        if expected is None:
            self._emit("sample", reference_error=failure)
        return expected

    def _batch(self, values: Tensors) -> int | None:
        for name, value in values.items():
            if value.dim():
                return int(value.shape[self._axes.get(name, 0)])
        return None

    def _set_tolerance(self, with_reference: bool) -> None:
        lowest = self._lowest()
        limits = tolerance(lowest, self._job.get("tolerance", {}).get(lowest))
        floor = None
        if with_reference and self._reference is not None:
            floor = precision.floor(self._reference, self._where.arguments, lowest)
        self._limits = limits.widened(floor)
        self._emit("precision", **asdict(self._limits), floor=floor.record() if floor else None)

    def _lowest(self) -> str:
        """The lowest precision of the artifact's weights, nodes and inputs."""
        kinds = [precision.of_weights(self._backend.weights())]
        kinds += self._job.get("quantised", [])
        kinds += [port["dtype"] for port in self._ports.values() if port.get("dtype") in ("float16", "bfloat16")]
        order = ("int4", "int8", "bfloat16", "float16", "float32")
        return next(kind for kind in order if kind in kinds or kind == "float32")

    # -- experiments ---------------------------------------------------------------------------------------------------

    def _repeats(self) -> None:
        """The same inputs twice; ONNX Runtime with and without graph optimisations."""
        given = self._where.given
        for plain in (False, True) if isinstance(self._backend, OnnxBackend) else (False,):
            outcome, failure = _attempt(lambda plain=plain: (self._run(given, plain), self._run(given, plain)))  # type: ignore[misc]
            if outcome is None:
                self._emit("repeat", plain=plain, error=failure)
            else:
                self._emit("repeat", plain=plain, differences=_records(compared(*outcome)))
        if self._reference is not None:
            arguments = self._where.arguments
            twice, _ = _attempt(lambda: [self._reference(arguments, seed=None) for _ in range(2)])  # type: ignore[misc]
            if twice is not None:
                self._emit("reference_repeat", differences=_records(compared(*twice)))

    def _run(self, given: Tensors, plain: bool = False) -> Tensors:
        return self._backend(given, plain=plain)

    def _parity(self, expected: Tensors, actual: Tensors) -> None:
        reference = self._reference
        assert reference is not None
        found = compared(expected, actual)
        self._scales = {each.output: each.scale for each in found}
        fine = bool(found) and all(each.within(self._limits) for each in found)
        self._emit(
            "sample",
            outputs=_ports(actual),
            expected=_ports(expected),
            differences=_records(found),
            within=fine,
            names_agree=set(actual) <= set(expected),
        )
        if self._related(actual):
            return
        if not fine and not reference.settled:
            self._transplant(actual)
        elif not fine:
            self._explain(expected, actual)

    def _related(self, actual: Tensors) -> bool:
        """Whether the given inputs are the reference's own samples in other units. Tells what the artifact makes of
        them: what the reference makes of its own says that the conversion is in the artifact.
        """
        reference, where = self._reference, self._where
        own = reference.samples() if reference is not None and self._job.get("inputs") else None
        if reference is None or not own:
            return False
        relation = next(filter(None, (related(where.arguments.get(name), value) for name, value in own.items())), None)
        if relation is None:
            return False
        expected, _ = _attempt(lambda: reference(own))
        if expected is None:
            return False
        fine = all(each.within(self._limits) for each in compared(expected, actual))
        self._emit("related", description=relation, within=fine, differences=_records(compared(expected, actual)))
        return fine

    def _scene(self, expected: Tensors, actual: Tensors) -> hypotheses.Scene:
        assert self._reference is not None
        where = self._where
        return hypotheses.Scene(
            self._reference, where.arguments, where.given, self._backend, expected, actual, self._limits
        )

    def _explain(self, expected: Tensors, actual: Tensors) -> None:
        scene = self._scene(expected, actual)
        weights, _ = _attempt(lambda: hypotheses.weights(scene, self._backend.weights(), self._limits.precision))
        if weights is not None:
            self._emit("weights", **asdict(weights))
        if isinstance(self._backend, WeightsBackend):
            return  # nothing but the weights can differ
        if weights is None or not weights.explains:
            for hypothesis in hypotheses.tried(scene):
                self._emit("hypothesis", **asdict(hypothesis))

    def _transplant(self, actual: Tensors) -> None:
        """The reference's weights are a fresh initialisation: take the artifact's, where it names them alike."""
        assert self._reference is not None
        own = self._reference.model.state_dict()
        theirs = self._backend.weights()
        fitting = {key: theirs[key] for key in own if key in theirs and theirs[key].shape == own[key].shape}
        lacking = [key for key, value in own.items() if key not in fitting and value.is_floating_point()]
        if lacking or isinstance(self._backend, WeightsBackend):
            self._emit("transplant", possible=False, lacking=lacking[:3])
            return
        self._reference.model.load_state_dict(fitting, strict=False)
        self._reference.settled = True
        expected = self._reference(self._where.arguments)
        found = compared(expected, actual)
        self._scales = {each.output: each.scale for each in found}
        fine = all(each.within(self._limits) for each in found)
        self._emit("transplant", possible=True, differences=_records(found), within=fine)
        if not fine:
            self._explain(expected, actual)

    def _batches(self) -> None:
        """Other batch sizes, of the sample's rows."""
        where = self._where
        batch = self._batch(where.given)
        if not self._axes or not batch:
            return
        for size in BATCHES:
            index = [row % batch for row in range(size)]
            given = rows(where.given, self._axes, index)
            self._compare_on("batch", {"size": size}, given, self._as_arguments(given))

    def _as_arguments(self, given: Tensors) -> Tensors:
        """Changed inputs of the artifact under the reference's names, in the reference's dtypes."""
        where = self._where
        if not where.arguments:
            return {}
        names = self._names()
        changed = dict(where.arguments)
        for name, value in given.items():
            argument = names.get(name)
            if argument in changed:
                changed[argument] = value.to(changed[argument].dtype)
        return changed

    def _names(self) -> dict[str, str]:
        """The reference's name of each input of the artifact: that with the same tensor, else by position."""
        where, names = self._where, dict[str, str]()
        for position, (name, value) in enumerate(where.given.items()):
            same = [
                key
                for key, other in where.arguments.items()
                if key not in names.values()
                and (other is value or (other.shape == value.shape and torch.equal(other.to(value.dtype), value)))
            ]
            named = [key for key in same if key in (name, where.renamed.get(name))]
            keys = list(where.arguments)
            by_position = keys[position : position + 1] if keys[position : position + 1] else []
            choice = named or [key for key in by_position if key in same] or same or by_position
            if choice:
                names[name] = choice[0]
        return names

    def _compare_on(self, section: str, about: dict[str, Any], given: Tensors, arguments: Tensors) -> None:
        """Both sides on other inputs; nothing is said where the reference does not take them."""
        expected = None
        if self._reference is not None and arguments:
            expected, _ = _attempt(lambda: self._reference(arguments))  # type: ignore[misc]
            if expected is None:
                self._emit(section, **about, reference_fails=True)
                return
        actual, failure = _attempt(lambda: self._backend(given))
        if actual is None:
            self._emit(section, **about, error=failure)
        elif expected is None:
            self._emit(section, **about, shapes={name: list(value.shape) for name, value in actual.items()})
        else:
            found = compared(expected, actual, self._scales)
            fine = all(each.within(self._limits) for each in found)
            self._emit(section, **about, differences=_records(found), within=fine)

    def _search_batch(self, failure: str | None) -> None:
        """Look for a batch size at which made-up inputs do not fail: then it is the others that do."""
        batch = self._batch(self._where.given)
        if not self._axes or not batch:
            return
        for size in _OTHERS:
            given = rows(self._where.given, self._axes, [row % batch for row in range(size)])
            actual, _ = _attempt(lambda given=given: self._backend(given))  # type: ignore[misc]
            if actual is not None:
                self._emit("batch", size=batch, error=f"{failure}; a batch of {size} passes")
                return

    def _alone(self, actual: Tensors) -> None:
        """Each row alone against the same row in the batch, of the artifact and of the reference."""
        where, batch = self._where, self._batch(self._where.given)
        if not self._axes or not batch or batch < 2:
            return
        sides: list[tuple[str, Callable[[Tensors], Tensors]]] = [("artifact", self._backend)]
        if self._reference is not None and where.arguments:
            sides.append(("reference", lambda given: self._reference(self._as_arguments(given))))  # type: ignore[misc]
        for side, call in sides:
            whole, _ = _attempt(lambda call=call: call(where.given))  # type: ignore[misc]
            found: list[Difference] = []
            for row in range(min(batch, _ALONE)):
                one = rows(where.given, self._axes, [row])
                alone, _ = _attempt(lambda call=call, one=one: call(one))  # type: ignore[misc]
                if alone is None or whole is None:
                    continue
                for name, value in whole.items():
                    if name in alone and value.dim() and value.shape[0] == batch and alone[name].shape[:1] == (1,):
                        scale = compared({name: value}, {name: value})[0].scale
                        found += compared({name: value[row : row + 1]}, {name: alone[name]}, {name: scale})
            if found:
                at = worst(found)
                self._emit("alone", side=side, difference=at.record(), within=at.within(self._limits))

    def _changes(self, expected: Tensors, actual: Tensors) -> None:
        """One input changed at a time: whether either side notices, and whether they agree."""
        reference, where = self._reference, self._where
        names = self._names()
        if reference is None or len(where.arguments) < 2:
            return
        for name in list(where.arguments)[:8]:
            changed = branches.changed(where.arguments[name])
            if changed is None:
                continue
            arguments = {**where.arguments, name: changed}
            wanted, _ = _attempt(lambda arguments=arguments: reference(arguments))  # type: ignore[misc]
            if wanted is None or all(each.within(self._limits) for each in compared(expected, wanted)):
                continue
            port = next((key for key, other in names.items() if other == name and key in where.given), None)
            if port is None:
                self._emit("changed", input=name, taken=False, noticed=False)
                continue
            given = {**where.given, port: changed.to(where.given[port].dtype)}
            got, failure = _attempt(lambda given=given: self._backend(given))  # type: ignore[misc]
            if got is None:
                self._emit("changed", input=name, taken=True, noticed=True, error=failure)
                continue
            noticed = not all(each.largest == 0 for each in compared(actual, got))
            found = compared(wanted, got, self._scales)
            fine = all(each.within(self._limits) for each in found)
            self._emit("changed", input=name, taken=True, noticed=noticed, differences=_records(found), within=fine)

    def _lengths(self) -> None:
        """Other sizes of free dimensions, where the reference takes them."""
        for label, size, length in self._free_dimensions():
            for other in dict.fromkeys((length // 2, length + 3)):
                if other < 1 or other == length:
                    continue
                given = {
                    name: self._resized(name, value, size, length, other) for name, value in self._where.given.items()
                }
                about = {"dimension": label, "size": other, "declared": isinstance(size, str)}
                self._compare_on("length", about, given, self._as_arguments(given))

    def _free_dimensions(self) -> Iterator[tuple[str, str | None, int]]:
        """Name, symbol and sample size of dimensions that the artifact leaves free, the batch apart."""
        seen: set[Any] = set()
        for name, value in self._where.given.items():
            dims = (self._ports.get(name) or {}).get("dims")
            for axis in range(value.dim()):
                if axis == self._axes.get(name):
                    continue
                if dims is not None and isinstance(dims[axis], int):
                    continue
                symbol = dims[axis] if dims is not None else None
                length = value.shape[axis]
                if length >= 4 and (key := symbol or length) not in seen:
                    seen.add(key)
                    yield symbol or f"axis {axis} of {name}", symbol, length
            if len(seen) >= 3:
                return

    def _resized(self, name: str, value: torch.Tensor, symbol: str | None, length: int, other: int) -> torch.Tensor:
        dims = (self._ports.get(name) or {}).get("dims")
        for axis in range(value.dim()):
            if axis == self._axes.get(name):
                continue
            if (dims is not None and dims[axis] == symbol and symbol) or (
                symbol is None and value.shape[axis] == length
            ):
                value = value.index_select(axis, torch.arange(other) % length)
        if value.dim() <= 1 and not value.is_floating_point() and value.numel() and 1 <= value.max() <= length:
            value = value.clamp(max=other)  # lengths of rows
        return value

    def _branches(self) -> None:
        """Inputs on which the reference decides otherwise than on the sample."""
        reference = self._reference
        assert reference is not None
        base = branches.decisions(reference, self._where.arguments)
        if not base:
            return
        place = base[0]
        self._emit("decisions", path=place.path, line=place.line, count=len(base))
        seen = {tuple(decision.value for decision in base)}
        for label, given in branches.variants(self._where.given, self._axes):
            arguments = self._as_arguments(given)
            taken = branches.decisions(reference, arguments)
            steps = tuple(decision.value for decision in taken)
            if not taken or steps in seen:
                continue
            seen.add(steps)
            turned = next((b for a, b in zip(base, taken, strict=False) if a.value != b.value), taken[-1])
            about = {"label": label, "path": turned.path, "line": turned.line}
            self._compare_on("branch", about, given, arguments)


def _doubles(values: Tensors) -> list[str]:
    return [name for name, value in values.items() if value.dtype is torch.float64]


def _singles(values: Tensors) -> Tensors:
    return {name: value.float() if value.dtype is torch.float64 else value for name, value in values.items()}


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


def _attempt(call: Callable[[], Any]) -> tuple[Any, str | None]:
    try:
        return call(), None
    except Exception as failure:
        text = " ".join(str(failure).split())
        return None, f"{type(failure).__name__}: {text[:300]}"


def _ports(values: Tensors) -> list[dict[str, Any]]:
    return [{"name": name, "dtype": dtype_name(value), "dims": list(value.shape)} for name, value in values.items()]


def _records(found: list[Difference]) -> list[dict[str, Any]]:
    return [replace(each).record() for each in found]


__all__ = ["BATCHES", "Tolerance", "run"]
