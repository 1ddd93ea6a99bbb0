"""Parameters in two places."""

from __future__ import annotations

from collections.abc import Iterator

from doctor.evidence.registrations import Registrations
from doctor.findings import Finding, Location, Measure, Severity
from doctor.registry import check


@check(
    "PAR007",
    "parameter-tying",
    Severity.INFO,
    faq="tuning/parameters/duplicated",
    faults=("shared-layer", "untied-weights"),
)
def parameter_tying(registrations: Registrations) -> Iterator[Finding]:
    """One parameter stands in two modules, or no longer does though it did.

    ## What it measures
    Parameters that were registered in a second module. A tie that no longer holds at the end of the run was broken by
    a later assignment; one between two layers that are no embedding is told, as it may be an accident.
    ## Why it hurts
    Layers that were meant to differ learn one weight; weights that were meant to be one drift apart.
    ## Example
    ```python
    self.decoder.weight = self.encoder.weight
    self.encoder = nn.Embedding(vocabulary, dim)
    ```
    ## Use instead
    ```python
    self.encoder = nn.Embedding(vocabulary, dim)
    self.decoder.weight = self.encoder.weight
    ```
    ## When it is right
    Tied embeddings, siamese branches and shared heads are good practice: this is a hint.
    ## References
    Press and Wolf, "Using the Output Embedding to Improve Language Models" (2017).
    """
    for tie in registrations.ties:
        if tie.holds and any("Embedding" in kind for kind in tie.kinds):
            continue
        what = "are one parameter" if tie.holds else "were one parameter and are two at the end"
        yield Finding(
            message=f"{tie.names[0]} ({tie.kinds[0]}) and {tie.names[1]} ({tie.kinds[1]}) {what}",
            location=Location(
                path=tie.source.path if tie.source else None,
                line=tie.source.line if tie.source else None,
                tensor=tie.names[1],
            ),
            measured={"registered_in": Measure(value=2)},
            remedy="tie after all layers are made and initialised, or give each its own parameter",
        )
