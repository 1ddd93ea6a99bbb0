"""ONNX."""

from pathlib import Path


def is_model(path: Path) -> bool:
    """Whether the file parses as an ONNX model."""
    with path.open("rb") as stream:
        return stream.read(1) == b"\x08" and stream.read(1) < b"\x20"
