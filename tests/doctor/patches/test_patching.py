"""From a sick script to a mended one, as a user asks for it."""

import hashlib
import json
import os
import subprocess

import jsonschema
import pytest

from doctor.errors import DoctorError
from doctor.findings import Effect, Finding, Location, Patch, PatchedFile, Rate, Severity, Verdict
from doctor.patches import edits
from doctor.patches.making import patches_for, wanted
from doctor.patches.prescriptions import edits_for
from doctor.patches.writing import working_tree, write
from doctor.reports.json import schema
from doctor.trials.treatments import ClearGradients, SearchLearningRate

SICK = """import torch
from torch import nn
torch.manual_seed(0)
x = torch.randn(512, 6)
y = (x.sum(1) * 2 + 1)[:, None]
model = nn.Sequential(nn.Linear(6, 32), nn.ReLU(), nn.Linear(32, 1))
optimizer = torch.optim.SGD(model.parameters(), lr=0.01, momentum=0.9)
for step in range(80):
    idx = torch.randint(0, 512, (64,))
    loss = nn.functional.mse_loss(model(x[idx]), y[idx])
    loss.backward()  # gradients
    optimizer.step()
"""


def sick_finding(**changes) -> Finding:
    place = Location(path="train.py", line=11)
    fields = {"severity": Severity.ERROR, "name": "missing-zero-grad", "treatment": ClearGradients(), "location": place}
    return Finding(message="carried", **{**fields, **changes})


def test_a_sick_script_is_mended_and_then_healthy(write_script, run_doctor, tmp_path):
    script = write_script(SICK)
    os.chmod(tmp_path / script, 0o640)
    (tmp_path / script).write_bytes(SICK.replace("\n", "\r\n").encode())
    done = run_doctor("diagnose", script, "--fix", "--yes", "--output", "json=r.json")
    assert done.returncode == 1, done.stderr
    assert "+    optimizer.zero_grad()" in done.stdout
    assert "patched train.py" in done.stderr
    mended = (tmp_path / script).read_bytes()
    assert (
        mended
        == SICK.replace("    loss.back", "    optimizer.zero_grad()\n    loss.back").replace("\n", "\r\n").encode()
    )
    assert (tmp_path / script).stat().st_mode & 0o777 == 0o640
    report = json.loads((tmp_path / "r.json").read_text())
    jsonschema.validate(report, json.loads(schema()))
    patch = report["findings"][0]["patch"]
    assert patch["verdict"] == "confirmed"
    assert patch["effect"]["treated"] < patch["effect"]["treated_curve"][0]
    assert "files" not in patch
    again = run_doctor("diagnose", script, "--diff")
    assert again.returncode == 0, again.stdout
    assert again.stdout == ""


def test_the_diff_is_what_git_applies_and_nothing_is_written(write_script, run_doctor, tmp_path):
    script = write_script(SICK)
    done = run_doctor("diagnose", script, "--diff")
    assert done.returncode == 1
    assert "# OPT003 missing-zero-grad: patched script: loss" in done.stdout
    assert "error[OPT003]" in done.stderr
    assert (tmp_path / script).read_text() == SICK
    (tmp_path / "cure.diff").write_text(done.stdout)
    subprocess.run(["git", "apply", "cure.diff"], cwd=tmp_path, check=True)
    assert "    optimizer.zero_grad()\n    loss.backward()  # gradients\n" in (tmp_path / script).read_text()


def test_without_a_terminal_nothing_is_applied_unasked(write_script, run_doctor, tmp_path):
    script = write_script(SICK)
    done = run_doctor("diagnose", script, "--fix")
    assert done.returncode == 1
    assert "--yes applies without asking" in done.stderr
    assert "+    optimizer.zero_grad()" in done.stdout
    assert (tmp_path / script).read_text() == SICK


def test_a_fault_in_a_module_beside_the_script_is_mended_there(write_script, run_doctor, tmp_path):
    loop = "def fit(model, optimizer, batches, f):\n    for x, y in batches:\n        f(model(x), y).backward()\n        optimizer.step()\n"
    write_script(loop, "loop.py")
    head, _ = SICK.split("for step")
    script = write_script(
        f"from loop import fit\n{head}batches = [(x[i::8], y[i::8]) for i in range(8)] * 10\n"
        "fit(model, optimizer, batches, nn.functional.mse_loss)\n"
    )
    subprocess.run(["python", "-m", "compileall", "-q", "."], cwd=tmp_path, check=True)  # a bytecode file that is newer
    done = run_doctor("diagnose", script, "--diff")
    assert "confirmed" in done.stdout.splitlines()[0], done.stdout + done.stderr
    assert "+++ b/loop.py" in done.stdout
    assert "+        optimizer.zero_grad()" in done.stdout


@pytest.mark.parametrize("arguments", [["--fix", "--no-confirm"], ["--yes"]])
def test_what_cannot_go_together_is_bad_usage(write_script, run_doctor, arguments):
    assert run_doctor("diagnose", write_script(SICK), *arguments).returncode == 2


# -- without a program --------------------------------------------------------------------------------------------


def test_what_a_rule_attaches_comes_first_and_else_what_its_treatment_knows():
    own = edits.ReplaceArgument(call=("SGD",), keyword="momentum", value=0.9)
    assert list(edits_for(sick_finding(edit=own))) == [own, edits.ClearGradients()]
    assert list(edits_for(sick_finding(name="other", treatment=None, faults=("missing-zero-grad",)))) == [
        edits.ClearGradients()
    ]
    assert list(edits_for(sick_finding(name="other", treatment=None))) == []


def test_a_learning_rate_without_a_trial_has_no_edit():
    finding = sick_finding(name="lr-too-high", treatment=SearchLearningRate(factors=(0.1,)))
    assert list(edits_for(finding)) == []
    best = Effect(statistic="", rates=(Rate(factor=0.1, learning_rate=0.05, loss=1.0, best=True),))
    assert next(edits_for(finding.revised(effect=best))).value == 0.05


def test_patches_are_made_of_what_was_observed_only(write_script, tmp_path):
    write_script(SICK)
    assert list(patches_for(sick_finding(), {}))
    written = (tmp_path / "train.py").stat().st_mtime
    assert list(patches_for(sick_finding(), {}, since=written + 1))
    assert not list(patches_for(sick_finding(), {}, since=written - 1))


def test_a_file_that_cannot_be_parsed_or_is_gone_gives_no_patch(write_script):
    write_script("def f(:\n")
    assert not list(patches_for(sick_finding(), {}))
    assert not list(patches_for(sick_finding(location=Location(path="none.py", line=1)), {}))


def test_a_later_patch_is_made_on_top_of_the_earlier(write_script, tmp_path):
    write_script(SICK)
    first = next(patches_for(sick_finding(), {}))
    current = {tmp_path.resolve() / "train.py": first.files[0].content}
    step = sick_finding(edit=edits.ReplaceArgument(keyword="lr", value=0.1, anywhere=True), treatment=None, name="")
    second = next(patches_for(step, current))
    assert b"zero_grad" in second.files[0].content
    assert b"lr=0.1" in second.files[0].content
    assert second.files[0].original == hashlib.sha256(SICK.encode()).hexdigest()
    assert write([first, second]) == [tmp_path.resolve() / "train.py"]


def test_a_last_line_without_end_is_marked_in_the_diff(write_script):
    write_script(SICK.rstrip("\n"))
    clip = sick_finding(edit=edits.ClipGradients())
    diff = next(patches_for(clip, {})).diff
    assert diff.endswith("optimizer.step()\n\\ No newline at end of file\n")


@pytest.mark.parametrize(
    "changes",
    [{"severity": Severity.INFO}, {"caused_by": 0}, {"location": Location()}, {"verdict": Verdict.REFUTED}],
)
def test_no_patch_is_looked_for_where_nothing_is_told(changes):
    assert wanted(sick_finding())
    assert not wanted(sick_finding(**changes))


def patch_of(path, before: bytes, after: bytes) -> Patch:
    file = PatchedFile(path=str(path), original=hashlib.sha256(before).hexdigest(), content=after, text="")
    return Patch(description="", diff="", files=(file,))


def test_a_file_that_changed_meanwhile_is_not_written(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "a.py").write_bytes(b"x = 2\n")
    with pytest.raises(DoctorError, match="has changed"):
        write([patch_of(tmp_path / "a.py", b"x = 1\n", b"x = 3\n")])
    assert (tmp_path / "a.py").read_bytes() == b"x = 2\n"


def test_nothing_outside_the_working_tree_is_written(tmp_path, monkeypatch):
    (tmp_path / "inner").mkdir()
    (tmp_path / "a.py").write_bytes(b"x = 1\n")
    (tmp_path / "inner" / "b.py").write_bytes(b"x = 1\n")
    (tmp_path / "inner" / "link.py").symlink_to(tmp_path / "a.py")
    monkeypatch.chdir(tmp_path / "inner")
    inside = patch_of(tmp_path / "inner" / "b.py", b"x = 1\n", b"x = 2\n")
    for outside in ("a.py", "inner/link.py"):
        with pytest.raises(DoctorError, match="lies outside"):
            write([inside, patch_of(tmp_path / outside, b"x = 1\n", b"x = 3\n")])
    assert (tmp_path / "inner" / "b.py").read_bytes() == b"x = 1\n"
    (tmp_path / ".git").mkdir()
    assert working_tree() == tmp_path.resolve()
    write([patch_of(tmp_path / "a.py", b"x = 1\n", b"x = 3\n")])
    assert (tmp_path / "a.py").read_bytes() == b"x = 3\n"
    assert sorted(path.name for path in tmp_path.iterdir()) == [".git", "a.py", "inner"]
