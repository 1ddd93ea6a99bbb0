"""Observation of real scripts in a child process: faithful, harmless, bounded."""

import subprocess
import sys
from pathlib import Path

import pytest

from doctor import probes
from doctor.evidence.evaluation_log import EvaluationLog
from doctor.evidence.op_tape import OpTape
from doctor.evidence.program_run import ProgramRun
from doctor.evidence.recording import Recording
from doctor.evidence.training_trace import TrainingTrace
from doctor.subjects.program import Run, ScriptProgram

HEALTHY = """
import torch
from torch import nn
torch.manual_seed(0)
x = torch.randn(256, 8)
y = (x[:, 0] * x[:, 1] > 0).long()
model = nn.Sequential(nn.Linear(8, 32), nn.ReLU(), nn.Dropout(0.1), nn.Linear(32, 2))
optimizer = torch.optim.Adam(model.parameters(), lr=1e-2)
for step in range(40):
    idx = torch.randint(0, 256, (32,))
    optimizer.zero_grad()
    loss = nn.functional.cross_entropy(model(x[idx]), y[idx])
    loss.backward()
    optimizer.step()
    print(repr(loss.item()))
"""


def observe(target, *arguments, steps=40, timeout_s=120.0, **run) -> Recording:
    return ScriptProgram(target, arguments, timeout_s).run(Run(steps, **run))


def evidence(recording, kind):
    probes.load()
    return probes.gather([recording], [kind])[kind]


def test_losses_of_an_observed_program_are_bit_identical(write_script):
    script = write_script(HEALTHY)
    bare = subprocess.run([sys.executable, script], capture_output=True, text=True, check=True).stdout.split()
    observed = evidence(observe(script, steps=100), TrainingTrace).losses()
    assert [float(text) for text in bare] == list(observed)


def test_lstm_with_dropout_and_loader_workers_is_bit_identical(write_script):
    script = write_script(
        """
import torch
from torch import nn
from torch.utils.data import DataLoader, TensorDataset
torch.manual_seed(1)
x, y = torch.randn(128, 12, 6), torch.randn(128, 1)
if __name__ == "__main__":
    loader = DataLoader(TensorDataset(x, y), batch_size=16, shuffle=True, num_workers=2)
    rnn, head = nn.LSTM(6, 16, num_layers=2, dropout=0.2, batch_first=True), nn.Linear(16, 1)
    optimizer = torch.optim.SGD([*rnn.parameters(), *head.parameters()], lr=0.05, momentum=0.9)
    for epoch in range(2):
        for xb, yb in loader:
            out, _ = rnn(xb)
            loss = nn.functional.mse_loss(head(out[:, -1]), yb)
            optimizer.zero_grad()
            loss.backward()
            torch.nn.utils.clip_grad_norm_(rnn.parameters(), 1.0)
            optimizer.step()
            print(repr(loss.item()))
"""
    )
    bare = subprocess.run([sys.executable, script], capture_output=True, text=True, check=True).stdout.split()
    observed = evidence(observe(script, steps=100), TrainingTrace).losses()
    assert [float(text) for text in bare] == list(observed)


def test_a_loss_that_is_compiled_whole_is_bit_identical_and_no_watch_fails(write_script):
    text = HEALTHY.replace(
        "for step",
        "loss_of = torch.compile(lambda x, y: nn.functional.cross_entropy(model(x), y), backend='aot_eager')\nfor step",
    ).replace("nn.functional.cross_entropy(model(x[idx]), y[idx])\n    loss.b", "loss_of(x[idx], y[idx])\n    loss.b")
    script = write_script(text)
    bare = subprocess.run([sys.executable, script], capture_output=True, text=True, check=True).stdout.split()
    recording = observe(script, steps=100)
    assert [float(line) for line in bare] == list(evidence(recording, TrainingTrace).losses())
    assert recording.end["compiled"]
    assert not recording.end["notes"]


def test_the_step_budget_ends_a_program_that_swallows_every_exception(write_script):
    loop = HEALTHY.replace("for step in range(40):\n", "for step in range(10**9):\n  try:\n")
    head, _, body = loop.partition("  try:\n")
    body = "".join(f"    {line.strip()}\n" for line in body.splitlines() if line.strip())
    script = write_script(f"{head}  try:\n{body}  except BaseException:\n    pass\n")
    run = evidence(observe(script, steps=10), ProgramRun)
    assert run.outcome == "budget"
    assert 10 <= run.steps <= 20  # without an evaluation in sight a loop of its own gets some steps more


def test_what_the_script_writes_is_kept_out_of_its_folder(write_script, tmp_path):
    script = write_script(
        HEALTHY
        + """
import json, os, shutil
from pathlib import Path
torch.save(model.state_dict(), "model.pt")
os.makedirs("runs/a", exist_ok=True)
Path("runs/a/log.json").write_text(json.dumps({"loss": 1}))
assert json.loads(Path("runs/a/log.json").read_text()) == {"loss": 1}
assert sorted(os.listdir("runs")) == ["a"] and Path("runs/a").is_dir()
assert set(torch.load("model.pt")) == set(model.state_dict())
with open("kept.txt", "a") as kept:
    kept.write("more")
assert open("kept.txt").read() == "originalmore"
os.remove("gone.txt")
assert not os.path.exists("gone.txt")
os.rename("runs", "runs2")
assert Path("runs2/a/log.json").exists() and not Path("runs").exists()
shutil.rmtree("runs2")
assert not os.path.exists("runs2")
Path("done.txt").write_text("x")
optimizer.zero_grad(); model(x).sum().backward(); optimizer.step()
"""
    )
    (tmp_path / "kept.txt").write_text("original")
    (tmp_path / "gone.txt").write_text("still here")
    run = evidence(observe(script, steps=200), ProgramRun)
    assert run.crash is None
    assert run.steps == 41
    assert {path.name: path.read_text() for path in tmp_path.iterdir() if path.suffix == ".txt"} == {
        "kept.txt": "original",
        "gone.txt": "still here",
    }
    assert sorted(path.name for path in tmp_path.iterdir()) == ["gone.txt", "kept.txt", "train.py"]


def test_arguments_helpers_and_main_guard_work(write_script, tmp_path):
    (tmp_path / "checks.py").write_text("def check(): return 'mine'\n")
    (tmp_path / "fixtures").mkdir()
    (tmp_path / "fixtures" / "__init__.py").write_text("NAME = 'mine'\n")
    script = write_script(
        "import argparse, checks, fixtures, torch\n"
        "parser = argparse.ArgumentParser(); parser.add_argument('--lr', type=float)\n"
        "if __name__ == '__main__':\n"
        "    assert checks.check() == fixtures.NAME == 'mine'\n"
        "    p = torch.nn.Parameter(torch.ones(3)); o = torch.optim.SGD([p], lr=parser.parse_args().lr)\n"
        "    for _ in range(5):\n"
        "        o.zero_grad(); (p ** 2).sum().backward(); o.step()\n"
    )
    trace = evidence(observe(script, "--lr", "0.25"), TrainingTrace)
    assert [step.learning_rate for step in trace.steps] == [0.25] * 5


def test_operations_carry_module_and_line(write_script):
    script = write_script(HEALTHY)
    tape = evidence(observe(script, steps=5), OpTape).first
    first = tape.named("addmm")[0]
    assert (first.module, first.source.path, first.source.line) == ("0", "train.py", 12)
    assert tape.loss is not None
    assert tape.producer(tape.loss).name == "nll_loss_forward"


@pytest.mark.parametrize(
    ("text", "outcome", "said"),
    [
        ("import torch\nx = input()\n", "crashed", "EOF"),
        ("import torch, sys\nsys.exit(3)\n", "exited", None),
        ("import torch\ndef f(:\n", "crashed", "invalid syntax"),
        ("print('no tensors here')\n", "finished", None),
        ("import torch, os\nif os.fork() == 0:\n    raise SystemExit(5)\nos.wait()\n", "finished", None),
    ],
)
def test_programs_that_do_not_train_end_in_a_known_way(write_script, text, outcome, said):
    run = evidence(observe(write_script(text)), ProgramRun)
    assert run.outcome == outcome
    assert run.steps == 0
    if said:
        assert said in run.crash.message


def test_a_program_past_its_time_is_killed_with_its_children(write_script, tmp_path):
    script = write_script(
        "import subprocess, sys, time, torch\n"
        "child = subprocess.Popen([sys.executable, '-c', 'import time; time.sleep(60)'], start_new_session=True)\n"
        f"open({str(tmp_path / 'scratch-pid')!r}, 'w').write(str(child.pid)); print(child.pid)\n"
        "time.sleep(60)\n"
    )
    run = evidence(observe(script, timeout_s=8.0), ProgramRun)
    assert run.outcome == "timeout"
    sleeping = [p for p in Path("/proc").glob("[0-9]*/cmdline") if b"time.sleep(60)" in _read(p)]
    assert not sleeping


def _read(path):
    try:
        return path.read_bytes()
    except OSError:
        return b""


def test_an_evaluation_behind_a_long_epoch_is_seen(write_script):
    script = write_script(
        """
import torch
from torch import nn
from torch.utils.data import DataLoader, TensorDataset
torch.manual_seed(0)
x, y = torch.randn(4000, 4), torch.randn(4000, 1)
loader = DataLoader(TensorDataset(x, y), batch_size=4, shuffle=True)
model = nn.Sequential(nn.Linear(4, 8), nn.BatchNorm1d(8), nn.ReLU(), nn.Linear(8, 1))
optimizer = torch.optim.SGD(model.parameters(), lr=0.01)
for epoch in range(3):
    for xb, yb in loader:
        optimizer.zero_grad()
        nn.functional.mse_loss(model(xb), yb).backward()
        optimizer.step()
    with torch.no_grad():
        model(x[:100])
"""
    )
    recording = observe(script, steps=15)
    places = evidence(recording, EvaluationLog).places
    assert evidence(recording, ProgramRun).steps == 15
    assert [(place.source.line, place.train_mode > 0) for place in places] == [(16, True)]


OWN_LOOP = """
import torch
from torch import nn
torch.manual_seed(0)
x, y = torch.randn(1000, 4), torch.randn(1000, 1)
encoder, head = nn.Sequential(nn.Linear(4, 8), nn.ReLU()), nn.Linear(8, 1)
optimizer = torch.optim.Adam([*encoder.parameters(), *head.parameters()], 1e-3)
for epoch in range(4):
    for i in range(STEPS):
        optimizer.zero_grad()
        nn.functional.mse_loss(head(encoder(x[i::100])), y[i::100]).backward()
        optimizer.step()
    with torch.no_grad():
        print(nn.functional.mse_loss(head(10 * encoder(x)), y).item())
"""


@pytest.mark.parametrize(("steps", "seen"), [(60, True), (50, True), (99, False)])
def test_an_evaluation_behind_a_loop_without_a_loader_is_waited_for(write_script, steps, seen):
    recording = ScriptProgram(write_script(OWN_LOOP.replace("STEPS", str(steps))), ()).run(Run(40))
    assert any(e["forwards"] > e["grad_enabled"] for e in recording.of("entry")) == seen
    assert 40 <= recording.end["steps"] <= 80


def test_inputs_that_another_model_computes_are_no_data(write_script):
    recording = ScriptProgram(write_script(OWN_LOOP.replace("STEPS", "30")), ()).run(Run(80))
    assert {event["root"] for event in recording.of("input-moments") if event["kind"] == "train"} == {0}


def test_gradients_that_are_cleared_and_then_written_by_hand_are_not_carried(write_script):
    script = write_script(
        """
import copy
import torch
from torch import nn
torch.manual_seed(0)
model = nn.Linear(4, 1)
outer = torch.optim.Adam(model.parameters(), 1e-2)
for step in range(20):
    inner = copy.deepcopy(model)
    fast = torch.optim.SGD(inner.parameters(), 0.1)
    x, y = torch.randn(8, 4), torch.randn(8, 1)
    fast.zero_grad()
    nn.functional.mse_loss(inner(x), y).backward()
    fast.step()
    gradients = torch.autograd.grad(nn.functional.mse_loss(inner(x), y), list(inner.parameters()))
    outer.zero_grad()
    for parameter, gradient in zip(model.parameters(), gradients):
        parameter.grad = gradient
    outer.step()
"""
    )
    carried = [e["carried"] for e in observe(script, steps=40).of("step") if e["optimizer"] == 0]
    assert not any(carried[1:])
