"""The child process: limits, crashes, harmlessness, and that nothing runs which was not judged safe."""

import os
import time

import pytest
import torch

from doctor import probes
from doctor.errors import DoctorError, Unavailable
from doctor.evidence.artifact_run import ArtifactRun, ParityRun
from doctor.gate import gate
from doctor.parity import launch
from doctor.subjects.artifact import artifact

MODEL = """
import os, pathlib, time
import torch


def build():
    {extra}
    torch.manual_seed(4)
    return torch.nn.Sequential(torch.nn.Linear(6, 8), torch.nn.ReLU(), torch.nn.Linear(8, 2)).eval()


def sample_inputs():
    return (torch.randn(5, 6, generator=torch.Generator().manual_seed(0)),)
"""


@pytest.fixture
def place(tmp_path, monkeypatch):
    """A reference and a faithful trace of it in the working folder."""
    monkeypatch.chdir(tmp_path)
    probes.load()

    def make(extra="pass"):
        (tmp_path / "net.py").write_text(MODEL.format(extra=extra))
        torch.manual_seed(4)
        model = torch.nn.Sequential(torch.nn.Linear(6, 8), torch.nn.ReLU(), torch.nn.Linear(8, 2)).eval()
        torch.jit.trace(model, torch.zeros(3, 6)).save("net.pt")
        return model

    return make


def run(**options):
    source = artifact("net.pt", reference="net.py:build", **options)
    return probes.gather([source], [ArtifactRun, ParityRun])


def test_an_artifact_is_run_beside_its_reference_in_a_child_process(place):
    place()
    found = run()
    assert found[ParityRun].faithful
    assert found[ArtifactRun].origin == "reference"
    assert len(found[ArtifactRun].batches) == 3


def test_a_run_that_does_not_end_is_stopped_and_said(place):
    place(extra="time.sleep(60)")
    began = time.monotonic()
    found = run(timeout_s=3.0)
    assert time.monotonic() - began < 20
    assert "did not end within 3 s" in str(found[ParityRun])


def test_memory_is_limited(place):
    place(extra="torch.empty(3 << 30, dtype=torch.uint8).fill_(1)")
    found = run(memory_mb=1500)
    assert isinstance(found[ParityRun], Unavailable)


def test_a_crash_of_the_process_is_said(place):
    place(extra="os.kill(os.getpid(), 11)")
    assert "signal 11" in str(run()[ParityRun])


def test_what_the_users_code_writes_stays_away_from_the_users_files(place, tmp_path):
    place(extra='pathlib.Path("written.txt").write_text("x")')
    run()
    assert not (tmp_path / "written.txt").exists()


def test_secrets_of_the_environment_are_not_handed_on(place, monkeypatch):
    monkeypatch.setenv("CLOUD_TOKEN", "secret")
    monkeypatch.setenv("MODEL_FOLDER", "here")
    place(extra='assert "CLOUD_TOKEN" not in os.environ and os.environ["MODEL_FOLDER"] == "here"')
    assert run()[ParityRun].faithful


def test_nothing_runs_that_was_not_judged_safe(place, tmp_path):
    model = place()

    class Bomb:
        def __reduce__(self):
            return (os.system, (f"touch {tmp_path / 'executed'}",))

    torch.save({"model": model.state_dict(), "x": Bomb()}, "net.pt")
    found = run()
    assert "not judged safe" in str(found[ArtifactRun])
    assert not (tmp_path / "executed").exists()


def test_a_damaged_file_is_not_run(place, tmp_path):
    place()
    content = (tmp_path / "net.pt").read_bytes()
    (tmp_path / "net.pt").write_bytes(content[: len(content) // 2])
    assert isinstance(run()[ArtifactRun], Unavailable)


def test_inputs_that_cannot_be_read_are_the_users_to_mend(place):
    place()
    with pytest.raises(DoctorError, match=r"no file nothing\.npz|nothing\.npz"):
        gate("net.pt", reference="net.py:build", inputs="nothing.npz")


def test_the_report_of_the_gate_names_the_rules_that_looked(place):
    place()
    report = gate("net.pt", reference="net.py:build")
    assert {"IOC001", "IOC003", "IOC009"} <= set(report.fine)
    assert not [finding for finding in report.findings if finding.rule.startswith("IOC")]


def test_a_wrapper_around_an_exported_program_is_no_error(place):
    model = place()

    class Served(torch.nn.Module):
        def __init__(self):
            super().__init__()
            self.model = model

        def forward(self, x):
            return self.model(x)

    torch.jit.trace(Served(), torch.zeros(3, 6)).save("net.pt")
    report = gate("net.pt", reference="net.py:build")
    assert [str(finding.level) for finding in report.findings if finding.rule == "MOD003"] == ["info"]
    assert "IOC001" in report.fine


def test_a_child_that_says_nothing_is_reported(tmp_path):
    events = launch.run({"timeout_s": 30.0, "memory_mb": 4096, "reference": None, "path": str(tmp_path / "none.onnx"),
                         "kind": "onnx", "trust": False, "inputs": None, "inputs_declared": []})  # fmt: skip
    assert [event["section"] for event in events] == ["load", "done"]
    assert "NoSuchFile" in events[0]["error"] or "doesn't exist" in events[0]["error"]
