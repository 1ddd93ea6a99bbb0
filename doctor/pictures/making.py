"""All pictures of a data set's report, from what was gathered; what cannot be drawn is left out, with a note."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence

from doctor import probes
from doctor.errors import Unavailable
from doctor.evidence.base import Evidence
from doctor.evidence.data_source import DataSource
from doctor.evidence.near_duplicates import NearDuplicates
from doctor.evidence.table_profile import TableProfile
from doctor.evidence.table_sample import TableSample
from doctor.findings import Finding, RowPlace
from doctor.pictures.records import Illustration, Member


def illustrations(
    source: DataSource, found: probes.Found, findings: Sequence[Finding]
) -> tuple[tuple[Illustration, ...], tuple[str, ...]]:
    """The pictures, and what the reader should know of those that are missing."""
    made: list[Illustration] = []
    try:
        made.extend(_all(source, found, findings))
    except Unavailable as reason:
        return tuple(made), (f"some pictures are missing: {reason}",)
    except Exception as failure:  # a picture is no reason to lose a diagnosis
        return tuple(made), (f"some pictures are missing ({type(failure).__name__}: {failure}); please report",)
    return tuple(made), ()


def _all(source: DataSource, found: probes.Found, findings: Sequence[Finding]) -> Iterator[Illustration]:
    if source.samples is not None:
        from doctor.pictures.samples import sample_pictures

        near = found.get(NearDuplicates)
        record = source.samples.read()
        show = _shower(source)
        yield from sample_pictures(record, near if isinstance(near, NearDuplicates) else None, findings, show)
    elif source.tabular:
        from doctor.pictures.tables import table_pictures

        have = [record for record in found.values() if isinstance(record, Evidence)]
        more = probes.gather(have, [TableProfile, TableSample], found)
        profile, sample = more[TableProfile], more[TableSample]
        if not isinstance(profile, TableProfile):
            raise profile if isinstance(profile, Unavailable) else Unavailable("the table has no profile")
        yield from table_pictures(source, profile, sample if isinstance(sample, TableSample) else None, findings)


def _shower(source: DataSource) -> Callable[[int | None, RowPlace], Member | None]:
    samples = source.samples
    if samples is None:
        return lambda index, place: None
    from doctor.pictures.showing import RecordShower, Shower

    if samples.layout is None:
        return RecordShower(samples.objects, samples.read().samples)
    return Shower(samples.layout, samples.read().samples)
