"""What the gate and other scanners say of the same files: `python -m benchmarks.gate_scanners VENV [--large]`.

VENV is a virtual environment with picklescan, modelscan and fickling (`pip install picklescan modelscan fickling
typing_extensions`). Every file of `fixtures/artifacts/hostile.py` and eight honest ones are given to each scanner's own
command; the table shows its exit status. A hostile file is caught when the scanner says so (picklescan, modelscan,
fickling: 1); 2 and above are errors and files left out, which only a caller that fails closed notices. With --large, a
checkpoint of 1 GiB is timed, too.
"""

from __future__ import annotations

import importlib.util
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parent.parent
_LIMIT_S = 300


def commands(scanners: Path) -> dict[str, list[str]]:
    """The command of each scanner; the file follows."""
    binary = scanners / "bin"
    doctor = [sys.executable, "-m", "doctor", "gate", "--isolated", "-q"]
    return {
        "doctor": [*doctor, "--fail-on", "error"],
        "picklescan": [str(binary / "picklescan"), "-p"],
        "modelscan": [str(binary / "modelscan"), "-p"],
        "fickling": [str(binary / "fickling"), "--check-safety", "--json-output", "/dev/null"],
    }


def run(command: list[str], path: Path) -> tuple[int, float]:
    """Exit status and seconds of the processor."""
    import resource

    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    ended = subprocess.run([*command, str(path)], cwd=path.parent, capture_output=True, timeout=_LIMIT_S)
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    return ended.returncode, after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime


def honest(folder: Path) -> list[Path]:
    """Files as PyTorch writes them."""
    import torch
    from safetensors.torch import save_file

    folder.mkdir()
    torch.manual_seed(0)
    net = torch.nn.Sequential(
        torch.nn.Linear(20, 32), torch.nn.BatchNorm1d(32), torch.nn.ReLU(), torch.nn.Linear(32, 4)
    )
    optimizer = torch.optim.AdamW(net.parameters())
    for _ in range(20):
        optimizer.zero_grad()
        net(torch.randn(16, 20)).square().mean().backward()
        optimizer.step()
    net.eval()
    state = net.state_dict()
    torch.save(state, folder / "state_dict.pt")
    torch.save({"model": state, "optimizer": optimizer.state_dict(), "epoch": 3}, folder / "checkpoint.pt")
    torch.save(state, folder / "legacy.pt", _use_new_zipfile_serialization=False)
    torch.save({k: v.bfloat16() if v.is_floating_point() else v for k, v in state.items()}, folder / "bfloat16.pt")
    torch.jit.script(net).save(folder / "torchscript.pt")
    torch.export.save(torch.export.export(net, (torch.randn(2, 20),)), folder / "export.pt2")
    free = {"input_names": ["x"], "dynamic_axes": {"x": {0: "batch"}}}  # a fixed batch is a fault of its own
    torch.onnx.export(net, (torch.randn(2, 20),), str(folder / "net.onnx"), dynamo=False, **free)
    save_file(state, folder / "net.safetensors")
    return sorted(folder.iterdir())


def hostile(folder: Path) -> list[Path]:
    """The variants of the fixture."""
    spec = importlib.util.spec_from_file_location("hostile", ROOT / "fixtures" / "artifacts" / "hostile.py")
    assert spec is not None
    assert spec.loader is not None
    module: Any = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return list(module.write(folder, folder / "EXECUTED"))


def table(paths: list[Path], scanners: dict[str, list[str]], seconds: dict[str, float]) -> list[dict[str, int]]:
    """Print one line a file; the exit statuses."""
    rows = []
    for path in paths:
        row = {}
        for name, command in scanners.items():
            row[name], spent = run(command, path)
            seconds[name] = seconds.get(name, 0.0) + spent
        rows.append(row)
        print(f"| {path.name} | " + " | ".join(str(row[name]) for name in scanners) + " |", flush=True)
    return rows


def large(folder: Path, scanners: dict[str, list[str]]) -> None:
    """Time a checkpoint of 1 GiB, warm in the page cache."""
    import torch

    path = folder / "large.pt"
    torch.save({f"layers.{i}.weight": torch.randn(4096, 4096) * 0.02 for i in range(16)}, path)
    scanners = {
        **scanners,
        "doctor, pickles only": [*scanners["doctor"], "--select", "FIL002"],
        "doctor, numbers too": scanners["doctor"],
    }
    del scanners["doctor"]
    print(f"\n1 GiB checkpoint ({path.stat().st_size / 2**30:.2f} GiB):")
    for name, command in scanners.items():
        run(command, path)
        began = time.monotonic()
        code, spent = run(command, path)
        print(f"  {name:<22} exit {code}, {time.monotonic() - began:.2f} s, {spent:.2f} s of the processor")


def main() -> None:
    """Print both tables, the counts and the time."""
    arguments = [argument for argument in sys.argv[1:] if not argument.startswith("-")]
    if len(arguments) != 1:
        raise SystemExit(__doc__)
    scanners = commands(Path(arguments[0]).absolute())
    with tempfile.TemporaryDirectory(prefix="doctor-scanners-") as scratch:
        seconds: dict[str, float] = {}
        print("| file | " + " | ".join(scanners) + " |\n|---|" + "---|" * len(scanners))
        sick = table(hostile(Path(scratch) / "hostile"), scanners, seconds)
        well = table(honest(Path(scratch) / "honest"), scanners, seconds)
        print()
        for name in scanners:
            caught = sum(row[name] == 1 for row in sick)
            unread = sum(row[name] > 1 for row in sick)
            alarms = sum(row[name] == 1 for row in well)
            unread_well = sum(row[name] > 1 for row in well)
            print(
                f"{name}: {caught} of {len(sick)} hostile files caught, {unread} not scanned, "
                f"{len(sick) - caught - unread} passed; of {len(well)} honest ones {alarms} false alarms, {unread_well} "
                f"not scanned; {seconds[name] / (len(sick) + len(well)):.2f} s of the processor a file"
            )
        executed = (Path(scratch) / "hostile" / "EXECUTED").exists()
        print(f"a payload was executed: {'yes' if executed else 'no'}")
        if "--large" in sys.argv:
            large(Path(scratch), scanners)


if __name__ == "__main__":
    main()
