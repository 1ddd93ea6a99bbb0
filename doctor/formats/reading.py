"""Every file of an artifact by the reader of its format."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from doctor.evidence.artifact_contents import Problem
from doctor.evidence.artifact_source import ArtifactSource
from doctor.formats import safetensors, sniffing
from doctor.formats.found import Found

_READERS: dict[str, Callable[[Path, str, Found], None]] = {"safetensors": safetensors.read}


def read(source: ArtifactSource) -> Found:
    """Read all files; what cannot be read is a problem of the file, never an error of ours."""
    found = Found()
    root = Path(source.root)
    for file in source.files:
        path = root / file.path
        expected = sniffing.EXPECTED.get(path.suffix.lower(), ())
        if expected and file.format not in expected:
            what = sniffing.told(path) if file.format == "unknown" else f"of the format {file.format}"
            label = "truncated-file" if file.size == 0 else "corrupt-file"
            found.problems.append(Problem(label, f"it is called {path.name}, and its content is {what}", file.path))
        reader = _READERS.get(file.format if file.format != "unknown" or not expected else expected[0])
        if reader is not None and file.size:
            try:
                reader(path, file.path, found)
            except OSError as failure:
                found.problems.append(Problem("corrupt-file", f"it cannot be read ({failure.strerror})", file.path))
    return found
