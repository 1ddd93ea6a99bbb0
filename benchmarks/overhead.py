"""What observation costs: `python -m benchmarks.overhead [SCRIPT ...]`.

The same script runs bare and observed in turn, over the same number of steps, and the ratio of the times between the
first and the last step is printed, with that of whole processes.
"""

from __future__ import annotations

import subprocess
import sys
import tempfile
import time
from pathlib import Path
from statistics import median

from doctor.subjects.program import Run, ScriptProgram

FIXTURES = Path(__file__).resolve().parent.parent / "fixtures"
STEPS = 50
_BARE = """
import sys, time, runpy, torch, os
times = []
def stepped(optimizer, args, kwargs):
    times.append(time.perf_counter())
    if len(times) == {steps}:
        print("LOOP", times[-1] - times[0], flush=True)
        os._exit(0)
from torch.optim.optimizer import register_optimizer_step_post_hook
register_optimizer_step_post_hook(stepped)
sys.path.insert(0, {folder!r})
sys.argv = [{script!r}]
runpy.run_path({script!r}, run_name="__main__")
"""


def bare(script: Path, folder: str) -> tuple[float, float]:
    """Seconds of the loop, and of the process, without observation."""
    code = _BARE.format(steps=STEPS, folder=str(script.parent), script=str(script))
    started = time.perf_counter()
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=folder, check=False)
    line = next((line for line in done.stdout.splitlines() if line.startswith("LOOP")), None)
    if line is None:
        raise SystemExit(f"{script} did not make {STEPS} steps: {done.stderr[-500:]}")
    return float(line.split()[1]), time.perf_counter() - started


def observed(script: Path, folder: str) -> tuple[float, float]:
    """The same under observation."""
    started = time.perf_counter()
    recording = ScriptProgram(str(script), folder=Path(folder)).run(Run(STEPS, soft_seconds=1e9))
    steps = recording.of("step")
    return steps[-1]["at"] - steps[0]["at"], time.perf_counter() - started


def main() -> None:
    """Measure in turn, three times each; print medians and ratios."""
    scripts = [Path(name).resolve() for name in sys.argv[1:]] or [
        FIXTURES / "bert/train.py",
        FIXTURES / "resnet/train.py",
    ]
    with tempfile.TemporaryDirectory() as folder:
        for script in scripts:
            pairs = [(bare(script, folder), observed(script, folder)) for _ in range(3)]
            loop = [median(pair[arm][0] for pair in pairs) for arm in (0, 1)]
            whole = [median(pair[arm][1] for pair in pairs) for arm in (0, 1)]
            print(f"{script.parent.name}/{script.name}: loop {loop[0]:.2f} s bare, {loop[1]:.2f} s observed, "
                  f"ratio {loop[1] / loop[0]:.2f}; process {whole[0]:.2f} s, {whole[1]:.2f} s")  # fmt: skip


if __name__ == "__main__":
    main()
