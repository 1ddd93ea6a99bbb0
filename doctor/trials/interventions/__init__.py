"""Treatments at work: how each is applied to the running program. Runs in the observed process.

Every module of this package is loaded; an intervention is found by the `kind` of the treatment that it applies.
"""

from __future__ import annotations

import importlib
import pkgutil
from typing import TYPE_CHECKING

from doctor.trials.interventions.base import Intervention, Plan

if TYPE_CHECKING:
    from doctor.observe.recorder import Recorder


def apply(plan: Plan, recorder: Recorder) -> Intervention:
    """Put the treatment of this plan in place; raises KeyError for one that is unknown."""
    for module in pkgutil.iter_modules(__path__, f"{__name__}."):
        importlib.import_module(module.name)
    return Intervention.known[plan["kind"]](plan, recorder)
