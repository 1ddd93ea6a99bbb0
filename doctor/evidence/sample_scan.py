"""Reading a data set whose samples are no rows of a table: one pass over it, whatever it holds."""

from __future__ import annotations

from dataclasses import dataclass

from doctor.errors import Unavailable
from doctor.evidence.audio_clips import AudioClips
from doctor.evidence.base import Evidence
from doctor.evidence.data_source import DataSource
from doctor.evidence.image_files import ImageFiles
from doctor.evidence.samples import Samples
from doctor.evidence.tensor_samples import TensorSamples
from doctor.evidence.text_records import TextRecords, TokenCounts
from doctor.probes import probe


@dataclass(frozen=True)
class SampleScan(Evidence):
    """What the one pass gave."""

    record: ImageFiles | AudioClips | TextRecords | TensorSamples


@probe
def sample_scan(source: DataSource) -> SampleScan:
    """Read every sample once."""
    if source.samples is None:
        raise Unavailable(f"no images, recordings, texts or tensors, but a {source.kind}")
    return SampleScan(source.samples.read())


@probe
def image_files(scan: SampleScan) -> ImageFiles:
    """The images."""
    if not isinstance(scan.record, ImageFiles):
        raise Unavailable("no images")
    return scan.record


@probe
def audio_clips(scan: SampleScan) -> AudioClips:
    """The recordings."""
    if not isinstance(scan.record, AudioClips):
        raise Unavailable("no recordings")
    return scan.record


@probe
def text_records(scan: SampleScan) -> TextRecords:
    """The records of text."""
    if not isinstance(scan.record, TextRecords):
        raise Unavailable("no texts")
    return scan.record


@probe
def token_counts(texts: TextRecords) -> TokenCounts:
    """Their tokens."""
    if texts.tokens is None:
        raise Unavailable("no tokenizer; give --tokenizer FOLDER")
    return texts.tokens


@probe
def tensor_samples(scan: SampleScan) -> TensorSamples:
    """The tensors."""
    if not isinstance(scan.record, TensorSamples):
        raise Unavailable("no tensors")
    return scan.record


@probe
def samples(scan: SampleScan) -> Samples:
    """What all kinds have in common."""
    return scan.record.samples
