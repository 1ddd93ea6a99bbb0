"""Personal data and secrets in texts and transcripts."""

from __future__ import annotations

from collections.abc import Iterator

from doctor.evidence.sensitive_texts import SensitiveText, SensitiveTexts
from doctor.findings import Effect, Finding, Measure, RowList, RowPlace, Verdict
from doctor.registry import Limits, look

from ._wording import with_article


class PersonalTextLimits(Limits):
    """Thresholds of PRV001 on texts."""

    phones: int = 3  # texts that hold what looks like a phone number: fewer may be another number


@look("PRV001")
def personal_texts(texts: SensitiveTexts, limits: PersonalTextLimits) -> Iterator[Finding]:
    """Texts and transcripts that hold personal data."""
    for found in texts.found:
        if found.personal and not (found.kind == "phone number" and len(found.places) < limits.phones):
            yield _finding(found, texts, "replace it before training, and see whether it was meant to be collected")


@look("PRV002")
def secret_texts(texts: SensitiveTexts) -> Iterator[Finding]:
    """Texts and transcripts that hold keys and passwords."""
    for found in texts.found:
        if not found.personal:
            yield _finding(found, texts, "revoke it, then replace it in the data")


def _finding(found: SensitiveText, texts: SensitiveTexts, remedy: str) -> Finding:
    places = found.places
    first = tuple(RowPlace(split=split, row=row, path=path, value=shown) for split, path, row, shown in places[:20])
    note = "each match was checked against its checksum or form"
    return Finding(
        message=f"{len(places):,} of {texts.count:,} texts hold {with_article(found.kind)} (as {places[0][3]})",
        measured={"texts": Measure(value=len(places), threshold=0)},
        rows=RowList(count=len(places), of=texts.count, first=first, every=[place[:3] for place in places]),
        remedy=remedy,
        demonstrated=note,
        verdict=Verdict.CONFIRMED,
        effect=Effect(statistic="observation", note=note),
    )
