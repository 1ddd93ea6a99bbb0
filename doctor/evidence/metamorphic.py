"""Metamorphic experiments: what the model, at the end of the run, made of its own batch with changed inputs."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from doctor.evidence.base import Evidence, Source
from doctor.evidence.recording import Recording, source
from doctor.probes import probe


@dataclass(frozen=True)
class Layer:
    """A library layer (recurrent, attention, transformer, convolution) around an operation; `source` is where it is made.

    `transformer` for the stacks (`TransformerEncoder`), which have their `batch_first` from the layers given to them.
    """

    kind: str
    path: str = ""
    source: Source | None = None
    batch_first: bool = False
    bidirectional: bool = False
    transformer: bool = False
    ordered: bool = True


@dataclass(frozen=True)
class Operation:
    """The operation that an experiment blames, with the user's line and the modules around it."""

    name: str
    source: Source | None = None
    module: str = ""
    module_kind: str = ""
    layer: Layer | None = None


@dataclass(frozen=True)
class BatchIndependence:
    """Every second sample was replaced: `share` of the others changed their output, by `effect` spreads (median).

    `how` says what told the axis of the samples (`loader`, `targets`, `pooled`, `images`, or only the number of `rows`).
    `connected` when they are nodes of a graph; `full_batch` when every step saw the same batch.
    """

    rows: int
    axis: int
    how: str
    share: float
    effect: float
    connected: bool = False
    full_batch: bool = False
    cause: Operation | None = None


@dataclass(frozen=True)
class Causality:
    """The inputs from position `cut` on were replaced, and the targets are the inputs one position later.

    `effect` is the largest change before `cut`, in spreads of the output, `reach` how far before it changes begin.
    `hiding` is the line on which scores are masked behind the blamed operation, `masks` those that build triangular masks.
    `compresses` when an encoder or a random code may legitimately carry the whole sequence.
    """

    field: str
    length: int
    cut: int
    effect: float
    leaks: bool
    reach: int = 0
    cause: Operation | None = None
    hiding: Source | None = None
    masks: tuple[Source, ...] = ()
    compresses: bool = False


@dataclass(frozen=True)
class PaddingInvariance:
    """`removed` padded positions were cut off (those before the real ones, `leading`, were given other ids): outputs at real
    positions (or the `pooled` one) changed by `effect`.

    `attention` counts the softmaxes over positions, `unmasked` those whose scores leave padding visible.
    """

    field: str
    effect: float
    removed: int
    length: int
    pooled: bool
    padded_share: float
    leading: bool = False
    attention: int = 0
    unmasked: int = 0
    mask_passed: tuple[str, ...] = ()
    cause: Operation | None = None
    pooling: Operation | None = None


@dataclass(frozen=True)
class InputField:
    """One tensor that the model is called with and that varies among the samples; `used` when outputs or the loss
    follow it, `moves` when outputs other than the loss do: the first of them by `change` of its spreads, on average, when
    the samples' values are dealt out anew.
    """

    name: str
    shape: tuple[int, ...]
    dtype: str
    used: bool
    mask: bool = False
    moves: bool = True
    change: float = 1.0


@dataclass(frozen=True)
class IgnoredFeatures:
    """Features along `axis` of a field that have no gradient, and whose values change no output; they do vary."""

    field: str
    axis: int
    size: int
    ignored: tuple[int, ...]
    count: int
    cause: Operation | None = None


@dataclass(frozen=True)
class OrderBlindness:
    """The positions were dealt out anew: outputs that only follow (`per_position`) or stay differ by `effect` ~ 0.

    `mixes` when positions do exchange information, so that blindness means something.
    """

    field: str
    length: int
    effect: float
    per_position: bool
    causal: bool
    mixes: bool
    embedding: Operation | None = None


@dataclass(frozen=True)
class NormLayer:
    """One batch norm on the experiment's batch. `shift` is the median distance of its running means from the batch's in
    standard deviations, `ratio` the median factor between the variances; `between` and `ratio_between` compare its
    several calls within one forward.
    """

    path: str
    calls: int
    values: int
    momentum: float | None
    tracked: int
    shift: float
    ratio: float
    between: float = 0.0
    ratio_between: float = 0.0
    source: Source | None = None


@dataclass(frozen=True)
class TrainEvalGap:
    """How far outputs move, in spreads, when batch norms use the batch's statistics; `layers` the worst first."""

    gap: float
    layers: tuple[NormLayer, ...] = ()
    count: int = 0


@dataclass(frozen=True)
class ExperimentedCall:
    """The experiments on one call; those that do not apply, or for which there was no time, are None."""

    root: int
    path: str
    kind: str
    source: Source | None = None
    forward_source: Source | None = None
    deterministic: bool | None = None
    independence: BatchIndependence | None = None
    causality: Causality | None = None
    padding: PaddingInvariance | None = None
    fields: tuple[InputField, ...] = ()
    features: IgnoredFeatures | None = None
    order: OrderBlindness | None = None
    train_eval_gap: TrainEvalGap | None = None
    notes: tuple[str, ...] = ()


@dataclass(frozen=True)
class Metamorphic(Evidence):
    """All calls that were experimented on, the largest model first."""

    calls: tuple[ExperimentedCall, ...] = ()


@probe
def metamorphic(recording: Recording) -> Metamorphic:
    """Read the experiments."""
    events = recording.some("experiments", "no call of the model could be repeated after the program")
    return Metamorphic(tuple(_call(event) for event in events))


def _call(event: dict[str, Any]) -> ExperimentedCall:
    ignored = event.get("ignored") or {}
    return ExperimentedCall(
        root=event["root"],
        path=event["path"],
        kind=event["kind"],
        source=source(event["line"]),
        forward_source=source(event.get("forward_line")),
        deterministic=event["deterministic"],
        independence=_record(BatchIndependence, event.get("independence")),
        causality=_record(Causality, event.get("causality")),
        padding=_record(PaddingInvariance, event.get("padding")),
        fields=tuple(_record(InputField, field) for field in ignored.get("fields", ())),
        features=_record(IgnoredFeatures, ignored.get("features")),
        order=_record(OrderBlindness, event.get("order")),
        train_eval_gap=_gap(event.get("normalisation")),
        notes=tuple(event["notes"]),
    )


def _record(kind: Any, raw: dict[str, Any] | None) -> Any:
    """A record from the fields of an event that it knows."""
    if raw is None:
        return None
    values: dict[str, Any] = {}
    for name in kind.__dataclass_fields__:
        value = raw.get(name)
        if name not in raw:
            continue
        if name in ("cause", "pooling", "embedding"):
            value = _operation(value)
        elif name == "hiding":
            value = source(value)
        elif name == "masks":
            value = tuple(place for place in map(source, value or ()) if place is not None)
        elif isinstance(value, list):
            value = tuple(value)
        values[name] = value
    return kind(**values)


def _operation(raw: dict[str, Any] | None) -> Operation | None:
    if raw is None:
        return None
    return Operation(
        name=raw["operation"],
        source=source(raw["line"]),
        module=raw["module"],
        module_kind=raw["module_kind"],
        layer=_layer(raw["layer"]),
    )


def _layer(raw: dict[str, Any] | None) -> Layer | None:
    return None if raw is None else Layer(source=source(raw["line"]), **{k: v for k, v in raw.items() if k != "line"})


def _gap(raw: dict[str, Any] | None) -> TrainEvalGap | None:
    if raw is None:
        return None
    layers = []
    for layer in raw["layers"]:
        known = {name: layer[name] for name in NormLayer.__dataclass_fields__ if name in layer}
        layers.append(NormLayer(**known, source=source(layer["line"])))
    return TrainEvalGap(raw["gap"], tuple(layers), raw["count"])
