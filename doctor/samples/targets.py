"""The target that the user named, and the names that there are."""

from __future__ import annotations

from collections.abc import Collection
from difflib import get_close_matches

from doctor.errors import DoctorError


def known_target(target: str | None, names: Collection[str], where: str) -> None:
    """Raises DoctorError, with the nearest name, where the target is none of them."""
    if target is None or target in names:
        return
    near = get_close_matches(target, names, n=1, cutoff=0.4)
    cure = f"did you mean {near[0]}?" if near else f"there are: {', '.join(list(names)[:12])}"
    raise DoctorError(f"no {target} in {where}", cure)
