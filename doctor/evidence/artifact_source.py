"""What an artifact is: its files, their format by content, and what the user gave to judge it by."""

from __future__ import annotations

from dataclasses import dataclass

from doctor.evidence.base import Given

# Names of formats. A folder is `huggingface`; `data` are an ONNX model's weights outside it; `zip` and `tar` are archives of no known purpose.
FORMATS = (
    "safetensors",
    "sharded",
    "torch-zip",
    "torch-legacy",
    "torch-tar",
    "pickle",
    "torchscript",
    "pt2",
    "onnx",
    "huggingface",
    "numpy",
    "data",
    "zip",
    "tar",
    "unknown",
)


@dataclass(frozen=True)
class ArtifactFile:
    """One file of the artifact: its path relative to the artifact's root, its size in bytes, its format by content."""

    path: str
    size: int
    format: str


@dataclass(frozen=True)
class ArtifactSource(Given):
    """The files of an artifact and the user's options.

    `path` is what the user gave; `root` the real, absolute folder that nothing of the artifact may leave. `files` are
    relative to it, the one that was named first. `reference` is `module.py:factory` or `package.module:factory`.
    `trust` allows to run what was not judged safe. `opset` is the newest that the target runtime knows.
    """

    path: str
    root: str
    format: str
    files: tuple[ArtifactFile, ...] = ()
    reference: str | None = None
    inputs: str | None = None
    trust: bool = False
    opset: int | None = None
    timeout_s: float = 120.0
    memory_mb: int = 8192

    @property
    def size(self) -> int:
        """Bytes of all files."""
        return sum(file.size for file in self.files)

    def of_format(self, *formats: str) -> tuple[ArtifactFile, ...]:
        """The files whose content is of one of these formats."""
        return tuple(file for file in self.files if file.format in formats)
