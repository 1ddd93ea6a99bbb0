"""A generator that is trained to be found out."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from doctor.evidence.critic_log import CriticLog
from doctor.findings import Finding, Measure, Severity
from doctor.registry import Limits, look

from .places import at


class AdversaryLimits(Limits):
    """Thresholds of LOS011 on generators and their critics."""

    steps: int = 8  # of each
    share: float = 0.9  # of them that push one way


@look("LOS011")
def generator_with_its_critic(log: CriticLog, limits: AdversaryLimits) -> Iterator[Finding]:
    """Generator and critic push the judgement of what was made the same way.

    The critic lowers (or raises) its judgement of made samples; a generator must do the opposite, whatever the loss
    (Goodfellow et al., "Generative adversarial nets", 2014; hinge and Wasserstein losses likewise).
    """
    for critic in log.critics:
        if min(len(critic.cut), len(critic.through)) < limits.steps:
            continue
        own, other = _up(critic.cut), _up(critic.through)
        if min(own, other) < limits.share and max(own, other) > 1 - limits.share:
            continue
        yield Finding(
            severity=Severity.ERROR,
            message=f"the generator {'lowers' if other > 0.5 else 'raises'} the critic's judgement of what it makes, as "
            f"the critic itself does: in {len(critic.through)} steps they never pull against each other",
            location=at(critic.source),
            measured={"steps_alike": Measure(value=len(critic.through), threshold=limits.steps, unit="steps")},
            remedy="give the generator's loss the label of real samples (or the opposite sign)",
            demonstrated="signs of the gradients of both losses at the critic's output",
            faults=("loss-sign", "wrong-loss"),
        )
        return


def _up(pushes: Sequence[float]) -> float:
    """The share of the gradients that are positive: descending them lowers the judgement."""
    return sum(push > 0 for push in pushes) / len(pushes)
