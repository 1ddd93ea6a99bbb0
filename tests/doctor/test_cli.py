"""The command as a user types it."""

import json
import subprocess
import sys

import jsonschema
import pytest
from click.testing import CliRunner

from doctor.cli import main

SICK = """
import torch
from torch import nn
torch.manual_seed(0)
x = torch.randn(512, 6)
y = x.sum(1) * 2 + 1
model = nn.Sequential(nn.Linear(6, 32), nn.ReLU(), nn.Linear(32, 1))
optimizer = torch.optim.Adam(model.parameters(), lr=1e-2)
for step in range(60):
    idx = torch.randint(0, 512, (64,))
    optimizer.zero_grad()
    loss = nn.functional.mse_loss(model(x[idx]), y[idx])
    loss.backward()
    optimizer.step()
"""


def invoke(*arguments):
    return CliRunner().invoke(main, list(arguments))


def test_a_sick_script_is_diagnosed_confirmed_and_reported(write_script, run_doctor, tmp_path):
    script = write_script(SICK)
    done = run_doctor("diagnose", script, "--output", "json=report.json")
    assert done.returncode == 1, done.stderr
    assert "error[LOS004] broadcast-loss" in done.stdout
    assert "train.py:12" in done.stdout
    assert "nn.functional.mse_loss(model(x[idx]), y[idx])" in done.stdout
    assert "\x1b[" not in done.stdout
    report = json.loads((tmp_path / "report.json").read_text())
    jsonschema.validate(report, json.loads(invoke("schema").output))
    first = report["findings"][0]
    assert (first["rule"], first["verdict"], first["location"]["line"]) == ("LOS004", "confirmed", 12)
    assert first["effect"]["treated"] < first["effect"]["control"]
    assert len(first["fingerprint"]) == 16


def test_its_healthy_twin_is_silent(write_script, run_doctor):
    script = write_script(SICK.replace("model(x[idx])", "model(x[idx]).squeeze(1)"))
    done = run_doctor("diagnose", script)
    assert done.returncode == 0, done.stdout
    assert done.stdout.startswith("train.py: healthy")
    assert len(done.stdout.splitlines()) <= 4


def test_the_failing_level_and_selection_steer_the_exit_status(write_script, run_doctor):
    script = write_script(SICK)
    assert run_doctor("diagnose", script, "--no-confirm", "--exit-zero").returncode == 0
    assert run_doctor("diagnose", script, "--no-confirm", "--select", "OPT").returncode == 0
    assert run_doctor("diagnose", script, "--no-confirm", "--fail-on", "never").returncode == 0
    done = run_doctor("diagnose", script, "--no-confirm", "--format", "concise")
    assert done.returncode == 1
    assert done.stdout.startswith("train.py:12: error LOS004 broadcast-loss")


def test_a_recording_is_diagnosed_later(write_script, run_doctor):
    script = write_script(SICK)
    run_doctor("diagnose", script, "--no-confirm", "--record", "run.evidence")
    done = run_doctor("diagnose", "run.evidence", "--format", "concise")
    assert done.returncode == 1
    assert "LOS004" in done.stdout


def test_a_declared_case_is_diagnosed_from_the_shell(write_script, run_doctor):
    target = write_script(
        "import torch, doctor\n"
        "torch.manual_seed(0)\n"
        "data = [(torch.randn(32, 4), torch.randint(0, 3, (32,))) for _ in range(8)]\n"
        "net = lambda: torch.nn.Sequential(torch.nn.Linear(4, 16), torch.nn.Linear(16, 3), torch.nn.Softmax(1))\n"
        "mine = doctor.Case(model=net, data=data, loss=torch.nn.functional.cross_entropy)\n",
        "mymodule.py",
    )
    done = run_doctor("diagnose", f"{target}:mine", "--no-confirm", "--steps", "20")
    assert done.returncode == 1, done.stderr
    assert "LOS001" in done.stdout


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["diagnose", "tran.py"], "no file tran.py; did you mean train.py?"),
        (["diagnose", "."], "is a folder"),
        (["diagnose", "notes.txt"], "is no Python script"),
        (["diagnose", "train.py", "--select", "OPT03"], "did you mean OPT003"),
        (["diagnose", "train.py", "--set", "OPT003.min_step=2"], 'unknown key "min_step"'),
        (["explain", "XYZ999"], 'no rule "XYZ999"'),
    ],
)
def test_a_users_mistake_is_one_clear_line(write_script, tmp_path, run_doctor, arguments, said):
    write_script(SICK)
    (tmp_path / "notes.txt").write_text("x")
    done = run_doctor(*arguments)
    assert done.returncode == 2
    assert said in done.stderr
    assert len(done.stderr.strip().splitlines()) == 1


def test_an_unknown_key_of_the_configuration_is_named(write_script, tmp_path, run_doctor):
    script = write_script(SICK)
    (tmp_path / "pyproject.toml").write_text("[tool.doctor]\nstep = 3\n")
    done = run_doctor("diagnose", script)
    assert done.returncode == 2
    assert 'did you mean "steps"' in done.stderr


def test_rules_matrix_and_explanations_come_from_the_rules():
    listed = json.loads(invoke("rules", "--format", "json").output)
    assert {"OPT001", "LOS001", "ARC001", "GRD001", "PAR001", "DAT008", "EVL001"} <= {rule["code"] for rule in listed}
    matrix = invoke("rules", "--matrix").output
    assert "training: data" in matrix
    assert "OPT003" in matrix
    page = invoke("explain", "missing-zero-grad").output
    assert page.startswith("OPT003 missing-zero-grad")
    assert "min_steps = 3" in page


@pytest.mark.parametrize("arguments", [["--help"], ["explain", "OPT003"], ["rules"]])
def test_nothing_heavy_is_imported_to_answer_a_question(arguments):
    code = (
        "import sys\nfrom doctor.cli import main\n"
        f"try:\n    main({arguments!r})\nexcept SystemExit:\n    pass\n"
        "print(sorted({'torch', 'pandas', 'transformers', 'rich', 'numpy', 'libcst'} & set(sys.modules)))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.splitlines()[-1] == "[]"
