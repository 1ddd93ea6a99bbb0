"""Gradients that die out or blow up on their way."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from statistics import fmean, median

from doctor.evidence.activation_stats import ActivationStats
from doctor.evidence.gradient_flow import GradientFlow
from doctor.evidence.training_trace import Step, TrainingTrace
from doctor.findings import Finding, Location, Measure, Nature, Severity
from doctor.registry import Limits, check
from doctor.trials.treatments import ClipGradients, ReplaceActivation


class VanishingLimits(Limits):
    """Thresholds of GRD001."""

    ratio: float = 1e-3  # first over last weight matrix, of gradient RMS relative to weight RMS
    min_layers: int = 3
    progress: float = 0.05  # share by which a loss that trains has fallen
    lost: float = 1e-6  # ratio below which the first layers stand still whatever is tried in a few dozen steps


class ExplodingLimits(Limits):
    """Thresholds of GRD002."""

    ratio: float = 10.0  # median gradient norm over parameter norm
    growth: float = 1000.0  # highest gradient norm over the first ones
    min_steps: int = 3
    progress: float = 0.3
    thrown: float = 0.3  # update ratio of a first step that is the learning rate's doing
    spikes: int = 3  # steps, after the first ten, whose norm is five times the median
    spike: float = 10.0  # the largest of them, in medians


@check("GRD001", "vanishing-gradients", Severity.WARNING, faq="tuning/gradients/incorrect", nature=Nature.CONDITION)
def vanishing_gradients(
    flow: GradientFlow, trace: TrainingTrace, units: ActivationStats | None, limits: VanishingLimits
) -> Iterator[Finding]:
    """The gradient of the first layers is thousands of times smaller than that of the last ones.

    ## What it measures
    Root mean square of each weight matrix's gradient relative to that of the matrix itself, median over the sampled
    steps, first layer over last. Fires below `ratio` while the loss fell by less than `progress`.
    ## Why it hurts
    The early layers stay as they were drawn, and the later ones work on noise.
    ## Example
    ```python
    layers = [m for _ in range(12) for m in (nn.Linear(64, 64), nn.Sigmoid())]
    ```
    ## Use instead
    ```python
    layers = [m for _ in range(12) for m in (nn.Linear(64, 64), nn.LayerNorm(64), nn.ReLU())]
    ```
    ## When it is right
    Fine-tuning and converged models have small gradients everywhere; the ratio does not care. A loss that falls
    shows that enough arrives.
    ## References
    Glorot and Bengio (2010); AutoTrainer (ICSE 2021) uses the ratio 1e-3 between first and last layer.
    """
    weights = [w for w in flow.weights() if w.typical() is not None and w.module_kind != "Embedding"]
    if len(weights) < limits.min_layers:
        return
    relative = [(w.typical() or 0.0) / max(median(w.weight_rms), 1e-12) for w in weights]
    if not relative[-1] or not all(map(math.isfinite, relative)):
        return
    ratio = relative[0] / max(relative[-1], *relative[-2:])
    # Heads learn faster than bodies in healthy models, too: the loss must go on from layer to layer.
    quarter = max(1, len(relative) // 4)
    if max(relative[:quarter]) >= limits.ratio**0.5 * median(relative[quarter:-quarter] or relative):
        return
    optimizer = weights[0].optimizer or 0
    first, last = trace.loss_level(optimizer, True), trace.loss_level(optimizer, False)
    if ratio >= limits.ratio or first is None or last is None or last < first - limits.progress * abs(first):
        return
    squashing = next((p for p in (units.places if units else ()) if p.function in ("sigmoid", "tanh")), None)
    place = squashing.source if squashing else None
    yield Finding(
        message=f"the gradient of {weights[0].name} is {ratio:.1e} of that of {weights[-1].name}, relative to the weights, "
        f"and the loss stays at {last:.4g}",
        location=Location(
            path=place.path if place else None, line=place.line if place else None, module=weights[0].module or None
        ),
        measured={
            "gradient_ratio": Measure(value=ratio, threshold=limits.ratio),
            "layers": Measure(value=len(weights)),
        },
        remedy="use ReLU-like activations, normalisation layers or residual connections, and an initialisation to match",
        treatment=ReplaceActivation(function=squashing.function, replacement="relu") if squashing else None,
        # So little that no rate makes up for it; one change of the activation need not cure it within a few steps.
        demonstrated="the first layers get no gradient to speak of" if ratio < limits.lost else None,
    )


@check("GRD002", "exploding-gradients", Severity.ERROR, faq="tuning/gradients/incorrect", nature=Nature.CONDITION)
def exploding_gradients(flow: GradientFlow | None, trace: TrainingTrace, limits: ExplodingLimits) -> Iterator[Finding]:
    """Gradients are so large that single steps throw the parameters away.

    ## What it measures
    Global gradient norm at each step. Suspicious are a median of the first three above `ratio` times the parameters' own norm, and a peak
    `growth` times the norm of the first steps, while the loss did not fall by `progress`; or at least `spikes` steps
    after the first ten above five times the median, the largest above `spike` medians. The trial clips at norm 1.
    ## Why it hurts
    One step leaves the region in which the gradient means anything; the loss leaps or becomes NaN.
    ## Example
    ```python
    loss.backward()
    optimizer.step()
    ```
    ## Use instead
    ```python
    loss.backward()
    nn.utils.clip_grad_norm_(model.parameters(), 1.0)
    optimizer.step()
    ```
    ## When it is right
    Losses that are summed over the batch have large gradients and train well with a small rate; they make progress.
    ## References
    Pascanu et al., "On the difficulty of training recurrent neural networks" (2013).
    """
    for optimizer in trace.optimizers:
        steps = [s for s in trace.of(optimizer) if s.gradient_norm is not None]
        norms = [s.gradient_norm for s in steps if s.gradient_norm is not None and math.isfinite(s.gradient_norm)]
        broken = len(norms) < len(steps)
        if len(norms) < (1 if broken else limits.min_steps):
            continue
        # Of the first steps: what grows later may be the work of the learning rate.
        ratios = [s.gradient_norm / s.parameter_norm for s in steps[:3] if s.gradient_norm and s.parameter_norm]
        relative = median([ratio for ratio in ratios if math.isfinite(ratio)] or [0.0])
        small_steps = (trace.typical_update_ratio(optimizer) or 0.0) < 0.05
        start = max(fmean(norms[:3]), 1e-8)
        growth = max(norms) / start
        losses = trace.losses(optimizer)
        first, last = trace.loss_level(optimizer, True), trace.loss_level(optimizer, False)
        late, middle = norms[10:], median(norms)
        spikes = [norm for norm in late if norm > 5 * middle]
        erratic = len(spikes) >= limits.spikes and max(spikes) > max(limits.spike * middle, 10.0)
        stuck = broken or (first is not None and last is not None and not last < (1 - limits.progress) * first)
        large = relative > limits.ratio or (growth > limits.growth and max(norms) > 100 and small_steps)
        if not (erratic or (stuck and large)):
            continue
        yield Finding(
            message=f"the gradient norm reaches {max(norms):.3g} (median {median(norms):.3g}, {relative:.3g} times the "
            f"parameters' own norm) and the loss goes from {losses[0]:.4g} to {losses[-1]:.4g}",
            location=_place(trace),
            follows_from=("lr-too-high",) if _thrown(steps, limits) else (),
            severity=None if stuck else Severity.WARNING,  # spikes that have not kept the loss from falling
            measured={
                "gradient_to_parameter_norm": Measure(value=relative, threshold=limits.ratio),
                "growth": Measure(value=growth, threshold=limits.growth),
            },
            remedy="clip the gradient norm before optimizer.step(), and look at the initialisation of deep or recurrent layers",
            treatment=ClipGradients(max_norm=1.0),
        )
        return


def _thrown(steps: Sequence[Step], limits: ExplodingLimits) -> bool:
    """Whether the very first steps move the weights by as much as they are large, before any gradient has grown."""
    return any((step.update_ratio or 0.0) > limits.thrown for step in steps[:3])


def _place(trace: TrainingTrace) -> Location:
    return Location(path=trace.loss_source.path, line=trace.loss_source.line) if trace.loss_source else Location()
