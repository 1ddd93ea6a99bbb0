"""The signature of an exported file by the reader of its format."""

from __future__ import annotations

from pathlib import Path

from doctor.evidence.io_contract import IOContract


class UnreadableInterface(Exception):
    """The signature cannot be read; the message says why. `unexplained`: not for want of a library."""

    unexplained = True


def read(path: Path, name: str, kind: str, *, attributes: bool = True) -> IOContract:
    """Read it; raises UnreadableInterface, whatever is wrong with the file.

    `attributes` allows to read the pickled attributes of TorchScript modules.
    """
    try:
        if kind == "onnx":
            from doctor.interfaces import onnx_graph

            return onnx_graph.read(path, name)
        if kind == "torchscript":
            from doctor.interfaces import torchscript

            return torchscript.read(path, name, attributes=attributes)
        from doctor.interfaces import exported

        return exported.read(path, name)
    except ImportError as failure:
        lacking = UnreadableInterface(f"{failure.name} is not installed (pip install 'pytorch-doctor[gate]')")
        lacking.unexplained = False
        raise lacking from None
    except Exception as failure:
        raise UnreadableInterface(f"its signature cannot be read ({type(failure).__name__}: {failure})") from None
