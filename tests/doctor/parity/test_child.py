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


class Bomb:
    """It makes a file when it is unpickled."""

    def __init__(self, path):
        self.path = path

    def __reduce__(self):
        return (os.system, (f"touch {self.path}",))


SERVED = """
import os
import torch


class Served(torch.nn.Sequential):
    def forward(self, x):
        assert "CLOUD_TOKEN" not in os.environ and os.environ["MODEL_FOLDER"] == "here"
        assert os.environ["CUDA_VISIBLE_DEVICES"] == ""
        with open("/proc/self/environ") as environment:
            assert "CLOUD_TOKEN" not in environment.read()
        return super().forward(x)


def build():
    assert os.environ["CLOUD_TOKEN"] == "secret"
    torch.manual_seed(4)
    return Served(torch.nn.Linear(6, 8), torch.nn.ReLU(), torch.nn.Linear(8, 2)).eval()


def sample_inputs():
    return (torch.randn(5, 6, generator=torch.Generator().manual_seed(0)),)
"""


def test_secrets_of_the_environment_are_the_reference_codes_and_gone_when_the_artifact_runs(
    place, monkeypatch, tmp_path
):
    monkeypatch.setenv("CLOUD_TOKEN", "secret")
    monkeypatch.setenv("MODEL_FOLDER", "here")
    place()
    (tmp_path / "net.py").write_text(SERVED)
    assert run()[ParityRun].faithful


def processes(monkeypatch):
    """The model processes that are started from now on."""
    made = []
    start = launch.ModelProcess.__init__

    def counted(self, *arguments, **options):
        made.append(options)
        start(self, *arguments, **options)

    monkeypatch.setattr(launch.ModelProcess, "__init__", counted)
    return made


def test_one_process_builds_the_reference_and_runs_the_artifact(place, monkeypatch):
    place()
    made = processes(monkeypatch)
    assert gate("net.pt", reference="net.py:build").healthy
    assert made == [{}]


def test_a_reference_that_wakes_a_device_does_not_share_its_process_with_the_artifact(place, monkeypatch):
    place(extra="torch.cuda.is_initialized = lambda: True")
    made = processes(monkeypatch)
    assert gate("net.pt", reference="net.py:build").healthy
    assert made == [{}, {"bare": True}]


def test_what_runs_on_trust_gets_a_process_of_its_own(place, monkeypatch):
    torch.save(place(), "net.pt")
    made = processes(monkeypatch)
    report = gate("net.pt", reference="net.py:build", trust=True)
    assert "IOC001" in report.fine
    assert made == [{}, {"bare": True}]


def test_a_whole_module_is_compared_by_its_numbers_and_never_unpickled(place, tmp_path):
    module = place()
    executed = tmp_path / "executed"
    for other, told in ((0.0, set()), (1.5, {"IOC001"})):
        with torch.no_grad():
            module[0].weight += other * torch.randn(8, 6)
        torch.save(module, "net.pt")
        report = gate("net.pt", reference="net.py:build")
        assert {finding.rule for finding in report.findings if finding.level != "info"} == told
    module.extra = Bomb(executed)
    torch.save(module, "net.pt")
    assert "FIL002" in {finding.rule for finding in gate("net.pt", reference="net.py:build").findings}
    assert not executed.exists()


def test_a_module_pickled_in_training_mode_is_a_warning(place):
    place()
    model = torch.nn.Sequential(torch.nn.Linear(6, 8), torch.nn.Dropout(0.2), torch.nn.Linear(8, 2))
    torch.save(model.train(), "net.pt")
    (finding,) = [finding for finding in gate("net.pt").findings if finding.rule == "IOC002"]
    assert (str(finding.level), finding.faults[0], finding.location.module) == ("warning", "train-mode-export", "1")
    torch.save({"model": model, "epoch": 3}, "net.pt")  # to go on from
    assert "IOC002" not in {finding.rule for finding in gate("net.pt").findings}
    model[1].p = 0
    for harmless in (model, model.eval()):
        torch.save(harmless, "net.pt")
        assert "IOC002" not in {finding.rule for finding in gate("net.pt").findings}


def test_a_signature_that_cannot_be_read_is_no_pass(place, monkeypatch):
    place()

    def fails(*arguments, **options):
        raise RecursionError("too deep")

    monkeypatch.setattr("doctor.interfaces.torchscript.read", fails)
    with pytest.raises(DoctorError, match="signature cannot be read"):
        gate("net.pt")


def test_a_reference_that_is_not_built_in_time_is_said(place):
    place(extra="time.sleep(60)")
    with pytest.raises(DoctorError, match="not built within 3 s"):
        gate("net.pt", reference="net.py:build", timeout_s=3.0)


def test_no_process_is_left_behind(place, monkeypatch, tmp_path):
    place()
    content = (tmp_path / "net.pt").read_bytes()
    (tmp_path / "net.pt").write_bytes(content[: len(content) // 2])
    kept = []
    close = launch.ModelProcess.close
    monkeypatch.setattr(launch.ModelProcess, "close", lambda self: (kept.append(self), close(self)))
    gate("net.pt", reference="net.py:build")
    assert kept
    assert not any(process._child.runs for process in kept)


def test_nothing_runs_that_was_not_judged_safe(place, tmp_path):
    model = place()

    torch.save({"model": model.state_dict(), "x": Bomb(tmp_path / "executed")}, "net.pt")
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
    job = {"path": str(tmp_path / "none.onnx"), "kind": "onnx", "trust": False, "inputs": None, "inputs_declared": []}
    events = launch.ModelProcess(None, 30.0, 4096, bare=True).run(job)
    assert [event["section"] for event in events] == ["load", "done"]
    assert "NoSuchFile" in events[0]["error"] or "doesn't exist" in events[0]["error"]
