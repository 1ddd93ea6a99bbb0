"""Every file of an artifact by the reader of its format."""

from __future__ import annotations

import re
import traceback
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

from doctor.evidence.artifact_contents import Problem
from doctor.evidence.artifact_source import ArtifactFile, ArtifactSource
from doctor.formats import folders, onnx, safetensors, sniffing, torch_archive
from doctor.formats.files import Window
from doctor.formats.found import Found
from doctor.formats.numpy_files import look_at


def _numpy(path: Path, name: str, found: Found) -> None:
    with Window(path) as window:
        look_at(window, name, "", found)


_READERS: dict[str, Callable[[Path, str, Found], None]] = {
    "safetensors": safetensors.read,
    "torch-zip": torch_archive.read,
    "torchscript": torch_archive.read,
    "pt2": torch_archive.read,
    "zip": torch_archive.read,
    "torch-legacy": torch_archive.read_legacy,
    "torch-tar": torch_archive.read_tar,
    "tar": torch_archive.read_tar,
    "pickle": torch_archive.read_pickle,
    "onnx": onnx.read,
    "sharded": folders.read_index,
    "numpy": _numpy,
}


# What a trainer leaves beside the weights of a folder.
_TRAINING = re.compile(r"(optimizer|scheduler|scaler|rng_state|random_states|training_args)")


def _mismatch(path: Path, file: ArtifactFile) -> Problem:
    what = sniffing.told(path) if file.format == "unknown" else f"of the format {file.format}"
    label = "truncated-file" if file.size == 0 else "corrupt-file"
    return Problem(label, f"it is called {path.name}, and its content is {what}", file.path)


def read(source: ArtifactSource) -> Found:
    """Read all files; what cannot be read is a problem of the file, never an error of ours."""
    found = Found()
    root = Path(source.root)
    for index, file in enumerate(source.files):
        path = root / file.path
        expected = sniffing.expected(path, alone=source.format not in ("huggingface", "sharded") and index == 0)
        mismatch = bool(expected) and file.format not in expected
        if mismatch and file.format != "zip":
            found.problems.append(_mismatch(path, file))
        reader = _READERS.get(file.format if file.format != "unknown" or not expected else expected[0])
        if reader is not None and file.size:
            try:
                reader(path, file.path, found)
            except OSError as failure:
                found.problems.append(Problem("corrupt-file", f"it cannot be read ({failure.strerror})", file.path))
            except Exception as failure:  # a gate fails closed: what our reader cannot take is told, never passed
                at = traceback.extract_tb(failure.__traceback__)[-1]
                where = f"{type(failure).__name__}: {str(failure)[:100]}, {Path(at.filename).name}:{at.lineno}"
                words = f"our reader of {file.format} failed ({where}); please report"
                found.problems.append(Problem("corrupt-file", words, file.path))
        if _TRAINING.match(path.name) and index:
            found.tensors = [
                replace(tensor, role="other") if tensor.file == file.path else tensor for tensor in found.tensors
            ]
        if mismatch and file.format == "zip" and not any(one.file == file.path for one in found.problems):
            found.problems.append(_mismatch(path, file))  # it opens, and holds nothing of PyTorch's
    if isinstance(folders.json_file(root / "adapter_config.json"), dict):
        found.facts["adapter_config"] = True
    if source.format in ("huggingface", "sharded"):
        folders.read_folder(source, found)
    return found
