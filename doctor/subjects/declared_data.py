"""Data sets that a module declares: `module.py:dataset`, an object or a function that gives one."""

from __future__ import annotations

import importlib.util
import re
import sys
from difflib import get_close_matches
from pathlib import Path
from typing import Any

from doctor.errors import DoctorError


def names_data(target: str) -> bool:
    """Whether `module.py:name` means data: the module makes this name, or some data set, and declares no case."""
    path, colon, name = target.rpartition(":")
    if not (colon and name.isidentifier() and path.endswith(".py")):
        return False
    file = Path(path)
    text = file.read_text(encoding="utf-8", errors="replace") if file.is_file() else ""
    made = re.search(rf"^(?:def\s+{name}\b|{name}\b[^=\n]*=|from .*\b{name}\b)|Dataset|DataLoader", text, re.M)
    return "Case(" not in text and made is not None


def declared(target: str) -> Any:
    """The object of this name; a function is called. Raises DoctorError when there is none or the module fails."""
    path, _, name = target.rpartition(":")
    spec = importlib.util.spec_from_file_location(Path(path).stem, path)
    if spec is None or spec.loader is None:
        raise DoctorError(f"{path} cannot be imported")
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module  # workers of a loader find its classes there
    sys.path.insert(0, str(Path(path).resolve().parent))
    try:
        spec.loader.exec_module(module)
        found = getattr(module, name, None)
        if callable(found) and not hasattr(found, "__getitem__") and not hasattr(found, "__iter__"):
            found = found()
    except Exception as failure:  # the user's code: whatever it raises is what is to be told
        raise DoctorError(f"{target} failed: {type(failure).__name__}: {failure}") from failure
    finally:
        sys.path.pop(0)
    if found is None:
        near = get_close_matches(name, vars(module), n=1)
        raise DoctorError(f"{path} has no {name}", f"did you mean {near[0]}?" if near else "name a data set of it")
    return found
