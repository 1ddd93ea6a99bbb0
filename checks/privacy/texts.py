"""Personal data and secrets in a data set."""

from __future__ import annotations

from collections.abc import Iterator

from doctor.evidence.identifiers import Identifiers
from doctor.evidence.reference_scores import ReferenceScores
from doctor.evidence.text_scan import PERSONAL, SECRET, Sensitive, TextScan
from doctor.findings import Finding, Location, Measure, RowList, RowPlace, Severity
from doctor.registry import Limits, check

from ._wording import with_article


class PersonalLimits(Limits):
    """Thresholds of PRV001."""

    phones: int = 3  # numbers of a column that look like a phone's: fewer may be another number


@check("PRV001", "personal-data", Severity.ERROR, faq="training/data/incorrect", faults=("pii-secrets",))
def personal_data(scan: TextScan, limits: PersonalLimits) -> Iterator[Finding]:
    """Texts hold e-mail addresses, phone, card, account or social security numbers.

    ## What it measures
    Every text column against a pattern of each kind; a payment card must have a known issuer and a right check digit
    (Luhn), an IBAN the remainder 1 by 97, a social security number an area that was issued. What is found is shown masked.
    ## Why it hurts
    A model repeats what it was trained on, and whoever has the data set has the persons' data.
    ## Example
    ```python
    frame.to_json("tickets.jsonl", orient="records", lines=True)   # "reach me at ..."
    ```
    ## Use instead
    ```python
    frame["text"] = frame["text"].str.replace(EMAIL, "<email>", regex=True)
    frame.to_json("tickets.jsonl", orient="records", lines=True)
    ```
    ## When it is right
    Addresses such as user@example.com, numbers without a right checksum, and long numbers without separators are silent. For names
    and places, which no pattern finds, use a recogniser such as Presidio.
    ## References
    ISO/IEC 7812 (cards), ISO 13616 (IBAN), ITU-T E.164 (phones); Carlini et al., "Extracting Training Data" (2021).
    """
    for found in scan.found:
        if found.group == PERSONAL and not (found.kind == "phone number" and found.rows.count < limits.phones):
            yield _finding(found, "replace or drop it before training, and see whether it was meant to be collected")


@check("PRV002", "secrets", Severity.ERROR, faq="training/data/incorrect", faults=("pii-secrets",))
def secrets(scan: TextScan) -> Iterator[Finding]:
    """Texts hold API keys, tokens, passwords or private keys.

    ## What it measures
    Every text column against the fixed forms of keys (private key blocks, AWS, GitHub, OpenAI-like, Hugging Face, Google,
    Slack, Stripe, GitLab, JSON web tokens) and against words such as `api_key =` before a long mixed value.
    ## Why it hurts
    Whoever has the data set, or asks the model cleverly, can use them.
    ## Example
    ```python
    texts = [path.read_text() for path in root.rglob("*.py")]
    ```
    ## Use instead
    ```python
    texts = [scrub(path.read_text()) for path in root.rglob("*.py") if path.name != ".env"]
    ```
    ## When it is right
    Placeholders such as `api_key = "your-key-here"` have no digits or few signs, and are silent.
    ## References
    Meli et al., "How Bad Can It Git?" (2019).
    """
    for found in scan.found:
        if found.group == SECRET:
            yield _finding(found, "revoke it, then replace it in the data")


@check("PRV003", "identifiers-as-features", Severity.INFO, faq="training/data/incorrect", faults=("id-column-feature",))
def identifiers_as_features(
    scan: TextScan | None, ids: Identifiers, scores: ReferenceScores | None
) -> Iterator[Finding]:
    """Columns that identify a person or a record stand among the features.

    ## What it measures
    Columns with one value a row that are named like an id or hold codes, and columns that mostly hold e-mail addresses,
    phone or account numbers. DAT025 says when one foretells the target.
    ## Why it hurts
    A model can learn the identifier by heart: it is no help on new records, and ties the model to persons.
    ## Example
    ```python
    features = frame.drop(columns=["label"])
    ```
    ## Use instead
    ```python
    features = frame.drop(columns=["label", "patient_id"])
    ```
    ## When it is right
    An id that serves to join or to split by group, and is dropped before training: hence only info.
    ## References
    Kaufman et al., "Leakage in Data Mining" (2012).
    """
    personal = {found.column for found in scan.found if found.rows.count > 0.5 * found.rows.of} if scan else set()
    for name in sorted({*(column.name for column in ids.columns), *personal}):
        alone = scores.alone(name) if scores else None
        yield Finding(
            message=f"{name} identifies a record" if name not in personal else f"{name} identifies a person",
            location=Location(column=name),
            measured={"score_alone": Measure(value=alone)},
            remedy="leave it out of the features",
        )


def _finding(found: Sensitive, remedy: str) -> Finding:
    first = tuple(RowPlace(split=r.split, row=r.number, path=r.path, value=r.value) for r in found.rows.first)
    return Finding(
        message=f"{found.rows.count:,} values of {found.column} hold {with_article(found.kind)} (as {found.shown})",
        location=Location(column=found.column),
        measured={"rows": Measure(value=found.rows.count, threshold=0), "share": Measure(value=found.rows.share)},
        rows=RowList(count=found.rows.count, of=found.rows.of, first=first, every=found.rows),
        remedy=remedy,
    )
