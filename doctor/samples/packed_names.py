"""Whether a `.pt` file holds a data set rather than a model, told by the names in it, without loading anything."""

from __future__ import annotations

import pickletools
import re
import zipfile
from pathlib import Path

_MODEL = re.compile(r"(^|\.)(weight|bias|running_mean|state_dict|model|optimizer)(\.|$)|state_dict$")
_MOST = 1 << 20  # bytes of the pickle that are read: the names of a data set stand in the first few hundred


def holds_samples_by_name(path: str | Path) -> bool:
    """Whether its dictionary names inputs and targets (`x_train`, `y_train`; `images`, `labels`) and no weights."""
    from doctor.samples.scan_arrays import role_of

    names = _names(Path(path))
    roles = {role_of(name) for name in names}
    return {"x", "y"} <= roles and not any(_MODEL.search(name) for name in names)


def _names(path: Path) -> list[str]:
    """The texts of the file's pickle, at most 1 MB of it; none where it is no zip of torch."""
    try:
        with zipfile.ZipFile(path) as packed:
            member = next(name for name in packed.namelist() if name.endswith("/data.pkl"))
            with packed.open(member) as content:
                raw = content.read(_MOST)
    except (OSError, zipfile.BadZipFile, StopIteration):
        return []
    found: list[str] = []
    try:
        for _, argument, _ in pickletools.genops(raw):
            if isinstance(argument, str) and argument.isprintable() and " " not in argument:
                found.append(argument)
    except ValueError:
        pass  # cut off, by us or before: the names so far are those that count
    return found
