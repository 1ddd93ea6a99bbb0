"""FIL007 and FIL008: the policy on size and format."""

import pytest

from doctor.evidence.artifact_contents import ArtifactContents, TensorEntry
from doctor.evidence.artifact_source import ArtifactFile, ArtifactSource
from doctor.testing import findings_of


def source(*files, format_="safetensors"):
    return ArtifactSource(path="net", root="/nowhere", format=format_, files=files)


WEIGHTS = ArtifactFile("net.safetensors", 2_000_000, "safetensors")
PICKLE = ArtifactFile("net.bin", 10, "torch-zip")
CONFIG = ArtifactFile("config.json", 10, "unknown")


def test_an_artifact_larger_than_the_policy_is_found_with_both_sizes():
    [found] = findings_of("FIL007", source(WEIGHTS, CONFIG), max_bytes=1_000_000)
    assert "2 MB in all, and the policy allows 1 MB" in found.message
    assert found.location.path == "net.safetensors"


def test_weights_in_further_files_count_once():
    index = ArtifactFile("net.onnx", 100, "onnx")
    twice = TensorEntry("a", "float32", (4,), "net.data", 0, 3_000_000)
    contents = ArtifactContents(tensors=(twice, twice))
    assert findings_of("FIL007", source(index), contents, max_bytes=2_000_000)
    assert not findings_of("FIL007", source(index), contents, max_bytes=3_000_100)


@pytest.mark.parametrize("limits", [{}, {"max_bytes": 2_000_010}])
def test_within_the_limit_or_without_one_size_is_silent(limits):
    assert not findings_of("FIL007", source(WEIGHTS, CONFIG), **limits)


def test_each_file_of_weights_in_another_format_is_found():
    found = findings_of("FIL008", source(WEIGHTS, PICKLE, CONFIG, format_="huggingface"), formats=("safetensors",))
    assert [one.location.path for one in found] == ["net.bin"]
    assert "torch-zip by its content" in found[0].message


@pytest.mark.parametrize(
    "subject",
    [
        source(WEIGHTS),
        source(WEIGHTS, CONFIG, format_="huggingface"),
        source(WEIGHTS, ArtifactFile("net.safetensors.index.json", 9, "sharded"), format_="huggingface"),
    ],
)
def test_the_wanted_format_is_silent(subject):
    assert not findings_of("FIL008", subject, formats=("safetensors",))
    assert not findings_of("FIL008", subject)
