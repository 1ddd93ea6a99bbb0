"""Folders and indexes in the style of Hugging Face: shards, code that a configuration asks for, links out."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

from doctor.evidence.artifact_contents import CodeReference, Problem
from doctor.evidence.artifact_source import ArtifactSource
from doctor.formats.archives import escapes
from doctor.formats.found import Found
from doctor.formats.onnx import leads_out

_MOST = 64 << 20


def json_file(path: Path) -> Any:
    """The content of a JSON file; None when it is none."""
    try:
        if path.stat().st_size > _MOST:
            return None
        return json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError):
        return None


def read_index(path: Path, name: str, found: Found) -> None:
    """An index: which shard holds which tensor. The shards themselves are files of the artifact."""
    content = json_file(path)
    table = content.get("weight_map") if isinstance(content, dict) else None
    if not isinstance(table, dict) or not all(isinstance(value, str) for value in table.values()):
        found.problems.append(Problem("malformed-header", "the index has no weight_map of names to files", name))
        return
    folder = Path(name).parent
    out = sorted({shard for shard in table.values() if escapes(shard)})
    for shard in out:
        found.problems.append(
            Problem("path-traversal", f'the index names the file "{shard}", outside the folder', name, shard)
        )
    metadata = content.get("metadata")
    found.facts.setdefault("indexes", {})[name] = {
        "map": {key: (folder / shard).as_posix() for key, shard in table.items() if shard not in out},
        "total_size": metadata.get("total_size") if isinstance(metadata, dict) else None,
    }


def read_folder(source: ArtifactSource, found: Found) -> None:
    """What holds between the files of the folder: links, configurations, scripts."""
    root = Path(source.root)
    for folder, directories, names in os.walk(root):
        for entry in (*directories, *names):
            path = Path(folder) / entry
            inside = path.relative_to(root).as_posix()
            if path.is_symlink() and not path.exists():
                found.problems.append(
                    Problem("missing-shard", f"a link to {os.readlink(path)}, which is missing", inside)
                )
            elif path.is_symlink() and leads_out(path, root):
                target = os.path.realpath(path)
                found.problems.append(Problem("path-traversal", f"a link out of the folder, to {target}", inside))
    for name in ("config.json", "tokenizer_config.json", "processor_config.json", "preprocessor_config.json"):
        if (root / name).is_file():
            _configuration(root / name, name, found)


def _configuration(path: Path, name: str, found: Found) -> None:
    content = json_file(path)
    if not isinstance(content, dict):
        found.problems.append(Problem("corrupt-file", "the configuration is no JSON table", name))
        return
    found.facts.setdefault("configs", {})[name] = content
    if content.get("auto_map"):
        asked = content["auto_map"]
        listed = ", ".join(str(value) for value in (asked.values() if isinstance(asked, dict) else [asked]))
        message = f"auto_map makes transformers import code that comes with the weights: {listed[:200]}"
        found.code.append(CodeReference("auto-map", message, name, "auto_map"))
    if content.get("trust_remote_code"):
        message = "trust_remote_code is set in the configuration itself"
        found.code.append(CodeReference("auto-map", message, name, "trust_remote_code"))
    for key in ("custom_pipelines", "custom_generate"):
        if content.get(key):
            message = f"{key} makes transformers import code that comes with the weights"
            found.code.append(CodeReference("auto-map", message, name, key))
