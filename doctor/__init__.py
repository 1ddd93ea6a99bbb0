"""A troubleshooting linter for PyTorch: finds why a program does not train, and proves it by a reference training.

Importing this package imports nothing heavy; `Case`, `diagnose` and `Report` are loaded when first used.
"""

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from doctor.dataset_diagnosis import diagnose_data
    from doctor.diagnosis import diagnose
    from doctor.report import Report
    from doctor.subjects.case import Case

__version__ = "0.1.0"
__all__ = ["Case", "Report", "__version__", "diagnose", "diagnose_data"]

_HOMES = {
    "Case": "doctor.subjects.case",
    "Report": "doctor.report",
    "diagnose": "doctor.diagnosis",
    "diagnose_data": "doctor.dataset_diagnosis",
}


def __getattr__(name: str) -> Any:
    if name in _HOMES:
        from importlib import import_module

        return getattr(import_module(_HOMES[name]), name)
    raise AttributeError(f"module 'doctor' has no attribute {name!r}")
