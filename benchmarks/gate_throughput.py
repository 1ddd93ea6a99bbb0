"""How fast weights are scanned: `python -m benchmarks.gate_throughput [GIGABYTES]` (default 2).

A generated safetensors file, warm in the page cache, is scanned for non-finite, constant, saturated and twin tensors
(doctor's `WeightStats`), and by one plain pass of `torch.isfinite(t).all()` over the mapped tensors. Both run in a
process of their own, five times in turn; medians are told, and the peak of resident memory. Runs of the gate are also
timed from the command line.
"""

from __future__ import annotations

import json
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

_PEAK = """
def peak():  # of this program alone; ru_maxrss also counts what the parent was before it became this one
    with open("/proc/self/status") as lines:
        return next(int(line.split()[1]) / 1024 for line in lines if line.startswith("VmHWM"))
"""
_PLAIN = """
import json, sys, time, torch
from safetensors import safe_open
began = time.monotonic()
with safe_open(sys.argv[1], "pt") as file:
    fine = all(bool(torch.isfinite(file.get_tensor(name)).all()) for name in file.keys())
spent = time.monotonic() - began
print(json.dumps([spent, peak()]))
"""
_SCAN = """
import json, sys, time
import numpy
from doctor import probes
from doctor.evidence.weight_stats import WeightStats
from doctor.subjects.artifact import artifact
probes.load()
began = time.monotonic()
stats = probes.gather([artifact(sys.argv[1])], [WeightStats])[WeightStats]
spent = time.monotonic() - began
assert len(stats.tensors) > 0
print(json.dumps([spent, peak()]))
"""


def write(path: Path, gigabytes: float, dtype: str) -> None:
    """Tensors of 64 MB, random, each other."""
    import torch
    from safetensors.torch import save_file

    torch.manual_seed(0)
    kind = getattr(torch, dtype)
    count = max(1, round(gigabytes * 1e9 / (4096 * 4096 * kind.itemsize)))
    save_file({f"layers.{i}.weight": (torch.randn(4096, 4096) * 0.02).to(kind) for i in range(count)}, path)


def measure(code: str, path: Path) -> tuple[float, float]:
    """Seconds, and the peak of resident memory in MB."""
    ended = subprocess.run([sys.executable, "-c", _PEAK + code, str(path)], capture_output=True, text=True, check=True)
    spent, peak = json.loads(ended.stdout.splitlines()[-1])
    return spent, peak


def main() -> None:
    """Print a line a type of numbers."""
    gigabytes = float(sys.argv[1]) if len(sys.argv) > 1 else 2.0
    with tempfile.TemporaryDirectory(prefix="doctor-throughput-") as folder:
        for dtype in ("float32", "bfloat16", "float16"):
            path = Path(folder) / f"{dtype}.safetensors"
            write(path, gigabytes, dtype)
            size = path.stat().st_size
            runs = [(measure(_PLAIN, path), measure(_SCAN, path)) for _ in range(5)]
            plain, scan = (statistics.median(run[side][0] for run in runs) for side in (0, 1))
            peaks = [max(run[side][1] for run in runs) for side in (0, 1)]
            began = time.monotonic()
            command = [sys.executable, "-m", "doctor", "gate", "--isolated", "-q", str(path)]
            subprocess.run(command, cwd=folder, capture_output=True)
            whole = time.monotonic() - began
            print(
                f"{dtype}: {size / 1e9:.2f} GB; isfinite {size / plain / 1e9:.2f} GB/s ({peaks[0]:.0f} MB), scan "
                f"{size / scan / 1e9:.2f} GB/s ({peaks[1]:.0f} MB), {plain / scan:.2f} of its throughput; the whole command "
                f"{whole:.2f} s",
                flush=True,
            )
            path.unlink()


if __name__ == "__main__":
    main()
