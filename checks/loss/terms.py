"""What the loss is a sum of: signs, repetitions, what is left out."""

from __future__ import annotations

import math
from collections.abc import Iterator

from doctor.evidence.loss_terms import LossTerms, Term
from doctor.evidence.optimizer_log import OptimizerLog
from doctor.evidence.training_trace import TrainingTrace
from doctor.findings import Finding, Measure, Severity
from doctor.registry import Limits, check

from .places import at, related

_CRITERIA = ("cross-entropy", "squared error", "smooth L1 error", "Huber error", "binary cross-entropy", "CTC loss")
_UNBOUNDED = ("cross-entropy", "binary cross-entropy", "CTC loss")


class SignLimits(Limits):
    """Thresholds of LOS011."""

    fall: float = 1.0  # the loss falls by this many times its first level, to below zero


@check("LOS011", "loss-sign", Severity.ERROR, faq="training/loss/incorrect")
def loss_sign(
    terms: LossTerms, trace: TrainingTrace, log: OptimizerLog | None, limits: SignLimits
) -> Iterator[Finding]:
    """The loss has the wrong sign: training maximises what it should minimise.

    ## What it measures
    The sign with which each term reaches the loss on the taped step (through sums, negations and plain factors). Fires
    when every criterion (cross-entropy, squared error ...) comes in negatively, when a picked log-probability comes in
    positively, and when a square comes in negatively while the loss falls without end. `maximize=True` turns the signs.
    ## Why it hurts
    The loss falls beautifully, towards minus infinity, and the model gets worse with every step.
    ## Example
    ```python
    log_probs = F.log_softmax(model(x), dim=1)
    loss = log_probs.gather(1, y[:, None]).mean()
    ```
    ## Use instead
    ```python
    log_probs = F.log_softmax(model(x), dim=1)
    loss = -log_probs.gather(1, y[:, None]).mean()
    ```
    ## When it is right
    Adversarial terms beside a task loss, several optimizers, policy gradients (a factor of unknown sign), entropy
    bonuses, inputs optimised in place of parameters, squares inside a bounded function.
    ## References
    Kingma and Welling 2014: the evidence lower bound is maximised, hence its negative is minimised.
    """
    if len(trace.optimizers) != 1 or not terms.terms:
        return
    record = next((r for r in log.optimizers if r.index == trace.optimizers[0]), None) if log else None
    if record and record.parameters and all(name.startswith("<") for name in record.parameters):
        return
    turned = -1 if record and record.settings.get("maximize") else 1
    wrong = _wrong(terms, trace, turned, limits)
    if wrong is None:
        return
    term, what = wrong
    place = (term.flipped if term.sign < 0 else None) or term.source
    losses = trace.losses()
    yield Finding(
        message=f"{what}{' under maximize=True' if turned < 0 else ''}; the loss went from {losses[0]:.4g} to "
        f"{losses[-1]:.4g}",
        location=at(record.created if record and turned < 0 else place),
        measured={"sign": Measure(value=term.sign * turned), "last_loss": Measure(value=losses[-1])},
        remedy="turn the sign of this term of the loss",
        demonstrated=what,
        related=related(term.source, "the term is computed here") if term.source != place else (),
    )


def _wrong(terms: LossTerms, trace: TrainingTrace, turned: int, limits: SignLimits) -> tuple[Term, str] | None:
    criteria = [term for term in terms.terms if term.kind in _CRITERIA]
    picked = [term for term in terms.terms if term.kind == "log-likelihood" and term.sign]
    if not trace.losses():
        return None
    if criteria and all(term.sign * turned < 0 for term in criteria) and not picked:
        return criteria[0], f"{criteria[0].kind} is maximised: it enters the loss with a negative sign"
    if picked and not criteria and all(term.sign * turned > 0 for term in picked):
        return picked[0], "the log-likelihood is minimised: it enters the loss with a positive sign"
    maximised = [term for term in criteria if term.sign * turned < 0 and term.kind in _UNBOUNDED]
    if maximised and _bottomless(trace, limits):
        return maximised[0], f"{maximised[0].kind} enters the loss with a negative sign, and nothing bounds it"
    squares = [term for term in terms.terms if term.kind == "square"]
    negative = [term for term in squares if term.sign * turned < 0]
    if negative and _bottomless(trace, limits):
        return negative[0], "a squared quantity enters the loss with a negative sign, and nothing bounds it"
    return None


def _bottomless(trace: TrainingTrace, limits: SignLimits) -> bool:
    losses = trace.losses()
    if not all(math.isfinite(loss) for loss in losses):
        return min((loss for loss in losses if math.isfinite(loss)), default=0.0) < -limits.fall * abs(losses[0])
    first, last = trace.loss_level(trace.optimizers[0], True), trace.loss_level(trace.optimizers[0], False)
    if first is None or last is None or len(losses) < 12:
        return False
    return last < 0 and first - last > limits.fall * abs(first) and last < losses[len(losses) // 2]


class RepeatedLimits(Limits):
    """Thresholds of LOS012."""

    times: int = 2


@check("LOS012", "duplicate-loss-term", Severity.ERROR, faq="training/loss/duplicated")
def duplicate_loss_term(terms: LossTerms, limits: RepeatedLimits) -> Iterator[Finding]:
    """The loss holds the same term twice.

    ## What it measures
    The scalar summands of the loss on the taped step. Two of them are the same when they are one tensor, or were
    computed by the same operations from the same tensors (the forward pass included; random operations never count).
    ## Why it hurts
    The term weighs twice as much as it is meant to, against the others and against weight decay, or doubles the rate.
    ## Example
    ```python
    loss = F.cross_entropy(logits, y) + penalty
    loss = loss + penalty
    ```
    ## Use instead
    ```python
    loss = F.cross_entropy(logits, y)
    loss = loss + penalty
    ```
    ## When it is right
    Several heads, several views of a batch, mixed targets, consistency under dropout: their tensors differ.
    ## References
    The twelve questions of the troubleshooting FAQ: "training loss: duplicated".
    """
    for repeated in terms.repeated:
        if repeated.times < limits.times:
            continue
        first, again = (
            sorted((p for p in (repeated.source, repeated.again) if p), key=lambda p: p.line)[:2] or (None,) * 2
        )
        where = terms.source if first == again else again
        yield Finding(
            message=f"the same {repeated.kind} term is added {repeated.times} times: the same operations on the same tensors",
            location=at(where or again),
            measured={"times": Measure(value=repeated.times, threshold=1)},
            remedy="add each term once",
            demonstrated=f"{repeated.times} summands of the loss are the same",
            related=related(first, "the term is computed here first"),
        )
        return


class MissingTermLimits(Limits):
    """Thresholds of LOS013."""

    min_lost: int = 1


@check("LOS013", "missing-loss-term", Severity.ERROR, faq="training/loss/missing")
def missing_loss_term(terms: LossTerms, limits: MissingTermLimits) -> Iterator[Finding]:
    """A term is computed, or called for by the model, and is no part of the loss.

    ## What it measures
    On the taped step: scalars that were computed from trainable parameters which the loss itself never reaches, and
    that no operation of the loss uses; and random codes (mean + noise x scale) whose scale the model computes, of which
    the loss sees nothing but the decoded sample, so that nothing holds the codes near their prior.
    ## Why it hurts
    A head without its loss stays at its initial values. A variational autoencoder without the divergence learns a scale
    of zero: it reconstructs well, and what is decoded from the prior is noise.
    ## Example
    ```python
    z = mu + torch.randn_like(mu) * torch.exp(0.5 * log_var)
    loss = F.mse_loss(decoder(z), x)
    ```
    ## Use instead
    ```python
    z = mu + torch.randn_like(mu) * torch.exp(0.5 * log_var)
    divergence = -0.5 * (1 + log_var - mu.pow(2) - log_var.exp()).sum(1).mean()
    loss = F.mse_loss(decoder(z), x) + divergence
    ```
    ## When it is right
    Metrics that are only logged; noise with a fixed or a learnt global scale; samples whose log-probability, divergence
    or distance to the prior is part of the loss; samples of the output itself.
    ## References
    Kingma and Welling 2014, "Auto-encoding variational Bayes", equation 10.
    """
    place = terms.source
    for sample in terms.loose_samples:
        yield Finding(
            message="codes are sampled as mean + noise x scale, and the scale reaches the loss only through the decoded "
            "sample: no term (a KL divergence) holds the codes near the prior",
            location=at(place),
            measured={"terms_on_the_scale": Measure(value=0, threshold=1)},
            remedy="add -0.5 * sum(1 + log_var - mu^2 - exp(log_var)), averaged over the batch, to the loss",
            demonstrated="nothing of the loss but the sample depends on its scale",
            related=related(sample.source, "the codes are sampled here"),
        )
        return
    for unused in terms.unused:
        lost = [name for name in unused.lost if not name.startswith("<")]  # an attack's own variable is no parameter
        if len(lost) >= limits.min_lost:
            names = ", ".join(lost[:3]) + (" ..." if len(lost) > 3 else "")
            yield Finding(
                message=f"a scalar computed from {names} is no part of the loss, which never reaches these parameters",
                location=at(place or unused.source),
                measured={"parameters_without_a_loss": Measure(value=len(lost), threshold=0)},
                remedy="add this term to the loss",
                demonstrated=f"{len(lost)} parameters are above this term alone",
                related=related(unused.source, "the term is computed here"),
            )
            return
