"""Pickles: hostile ones are named, honest ones are silent, and nothing is ever executed."""

import importlib.util
import pickle
import sys
import time
import types
import zipfile
from pathlib import Path

import numpy as np
import pytest
import torch

from doctor.findings import Severity

FIXTURES = Path(__file__).resolve().parents[3] / "fixtures"


def _hostile():
    spec = importlib.util.spec_from_file_location("hostile", FIXTURES / "artifacts" / "hostile.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


HOSTILE = dict(_hostile().variants("/tmp/doctor-gate-payload-was-executed"))


@pytest.mark.parametrize("name", HOSTILE)
def test_a_hostile_file_is_unsafe_and_is_not_executed(name, tmp_path, judge):
    marker = tmp_path / "EXECUTED"
    content = dict(_hostile().variants(marker))[name]
    (tmp_path / name).write_bytes(content)
    report = judge(tmp_path / name)
    unsafe = [finding for finding in report.findings if "unsafe-pickle" in finding.faults]
    assert any(finding.level is Severity.ERROR for finding in unsafe)
    assert not marker.exists()


def test_the_payload_would_be_executed_by_a_loader(tmp_path):
    marker = tmp_path / "EXECUTED"
    (stream,) = (content for name, content in _hostile().variants(marker) if name == "os_system.pkl")
    pickle.loads(stream)
    assert marker.exists()


def _silent(report):
    assert not [finding for finding in report.findings if finding.level is not Severity.INFO], report.text


@pytest.mark.parametrize("zipped", [True, False])
def test_a_state_dict_is_silent(zipped, tmp_path, judge, net):
    torch.save(net.state_dict(), tmp_path / "net.pt", _use_new_zipfile_serialization=zipped)
    report = judge(tmp_path / "net.pt")
    assert report.subject.ending.startswith("torch-zip" if zipped else "torch-legacy")
    assert not report.findings


def test_a_checkpoint_with_an_optimizer_and_every_dtype_is_silent(tmp_path, judge, net):
    extra = {str(d): torch.ones(3).to(d) for d in (torch.bfloat16, torch.float8_e4m3fn, torch.float16, torch.int8)}
    saved = {"model": net.state_dict(), "optimizer": net.optimizer_state, "extra": extra, "epoch": 3}
    torch.save(saved, tmp_path / "ck.ckpt")
    report = judge(tmp_path / "ck.ckpt")
    assert not report.findings
    assert report.subject.ending.split(", ")[1] == f"{len(net.state_dict())} tensors"


def test_scripted_traced_and_exported_programs_are_silent(tmp_path, judge, net):
    torch.jit.script(net).save(tmp_path / "script.pt")
    torch.jit.trace(net, torch.randn(2, 20)).save(tmp_path / "trace.pt")
    torch.export.save(torch.export.export(net, (torch.randn(2, 20),)), tmp_path / "net.pt2")
    for name, kind in (("script.pt", "torchscript"), ("trace.pt", "torchscript"), ("net.pt2", "pt2")):
        report = judge(tmp_path / name)
        assert report.subject.ending.startswith(kind)
        _silent(report)


def test_numpy_scalars_and_layers_of_torch_are_information(tmp_path, judge, net):
    torch.save({"loss": np.float64(0.25), "weight": torch.randn(3)}, tmp_path / "scalar.pt")
    torch.save(torch.nn.Sequential(torch.nn.Linear(3, 2)), tmp_path / "layers.pt")
    for name in ("scalar.pt", "layers.pt"):
        (finding,) = [finding for finding in judge(tmp_path / name).findings if finding.rule == "FIL002"]
        assert finding.level is Severity.INFO
        assert "weights_only" in finding.message


def test_a_whole_model_of_the_users_class_is_unsafe_until_its_name_is_allowed(tmp_path, judge):
    from doctor.config import Settings

    stream = b"\x80\x02cshop.net\nNet\n)\x81}X\x01\x00\x00\x00aK\x01sb."
    (tmp_path / "net.pkl").write_bytes(stream)
    (finding,) = judge(tmp_path / "net.pkl").findings
    assert "shop.net.Net" in finding.message
    trusted = Settings(rules={"FIL002": {"allow": ["shop.net.Net"]}})
    assert not judge(tmp_path / "net.pkl", settings=trusted).findings


def test_names_of_pythons_own_library_cannot_be_allowed(tmp_path, judge):
    from doctor.config import Settings

    (tmp_path / "a.pkl").write_bytes(HOSTILE["os_system.pkl"])
    assert judge(tmp_path / "a.pkl", settings=Settings(rules={"FIL002": {"allow": "os.system"}})).findings


def test_lists_of_words_beside_the_weights_are_no_pickles(tmp_path, judge, net):
    words = {"labels.txt": "cat\ndog\nbird\n", "vocab": "c\nd\n(\n.\n", "notes.md": "Not. New.\n", "N": "NN. and so on"}
    torch.jit.save(torch.jit.script(net), tmp_path / "a.pt", _extra_files=words)
    assert not judge(tmp_path / "a.pt").findings
    folder = tmp_path / "model"
    folder.mkdir()
    torch.save(net.state_dict(), folder / "pytorch_model.bin")
    (folder / "config.json").write_text("{}")
    for name, text in words.items():
        (folder / name).write_text(text)
    assert not judge(folder).findings
    (folder / "vocab.txt").write_bytes(HOSTILE["builtins_exec_protocol0.pkl"])
    assert [finding.rule for finding in judge(folder).findings] == ["FIL002"]


def test_the_frozen_allow_list_is_that_of_the_installed_torch():
    from torch._weights_only_unpickler import _get_allowed_globals

    from doctor.formats.torch_globals import ALLOWED

    if not torch.__version__.startswith("2.13"):
        pytest.skip("the list is that of PyTorch 2.13")
    assert frozenset(_get_allowed_globals()) == ALLOWED


OWN = """
import torch


class Layer(torch.nn.Module):
    def __init__(self):
        super().__init__()
        self.inner = torch.nn.Linear(4, 3)


def build():
    return Layer()
"""


@pytest.mark.parametrize(
    ("name", "level"), [("own_net.Layer", "info"), ("__main__.Layer", "info"), ("os.Layer", "error")]
)
def test_a_whole_module_of_the_references_own_classes_needs_no_more_trust_than_the_reference(
    name, level, tmp_path, monkeypatch, judge
):
    monkeypatch.chdir(tmp_path)
    Path("own_net.py").write_text(OWN)
    scope = {"__name__": "own_net"}
    exec(OWN, scope)
    monkeypatch.setitem(sys.modules, "own_net", types.SimpleNamespace(**scope))
    torch.save(scope["build"](), "whole.pt")
    module = name.rpartition(".")[0]
    with zipfile.ZipFile("whole.pt") as source, zipfile.ZipFile("other.pt", "w") as target:
        for member in source.infolist():
            target.writestr(member.filename, source.read(member).replace(b"cown_net\n", f"c{module}\n".encode()))
    monkeypatch.delitem(sys.modules, "own_net")

    def unsafe(**options):
        return {str(f.level) for f in judge("other.pt", **options).findings if f.rule == "FIL002"}

    assert unsafe(reference="own_net.py:build") == {level}
    assert unsafe() == {"error"}


def _long(number):
    raw = number.to_bytes((number.bit_length() + 8) // 8, "little")
    return b"\x8a" + bytes([len(raw)]) + raw


MODULUS = (1 << 61) - 1  # of Python's hash of integers
COSTLY = {
    "one list under many keys": b"}(X\x01\0\0\0a](" + b"K\x01" * 100_000 + b"eq\x01"
    + b"".join(b"X\x05\0\0\0%05dh\x01" % i for i in range(3000)) + b"u",
    "keys of one hash": b"}(" + b"".join(_long(MODULUS * k) + b"N" for k in range(1, 60_000)) + b"u",
    "memo entries of one hash": b"N" + b"".join(b"p%d\n" % (MODULUS * k) for k in range(1, 60_000)),
    "parameters of parameters": b"ctorch._utils\n_rebuild_parameter\nq\x020"
    + b"h\x02" * 3000 + b"K\x01" + b"\x85R" * 3000,
    "many opcodes": b"N0" * 2_400_000 + b"N.\x80\x02" + b"N0" * 2_400_000 + b"N.\x80\x02" + b"N0" * 2_400_000 + b"N",
    "many pickles": b"N.\x80\x02" * 100_000 + b"N",
}  # fmt: skip


@pytest.mark.parametrize("name", COSTLY)
def test_the_walk_is_bounded_whatever_a_pickle_asks_for(name, tmp_path, judge):
    with zipfile.ZipFile(tmp_path / "a.pt", "w") as archive:
        archive.writestr("a/data.pkl", b"\x80\x02" + COSTLY[name] + b".")
        archive.writestr("a/version", "3\n")
    began = time.process_time()
    report = judge(tmp_path / "a.pt")
    assert time.process_time() - began < 30  # about 7 s at most on an idle core; without bounds minutes or hours
    assert "please report" not in report.text
    if name.startswith("many"):
        assert any(finding.level is Severity.ERROR for finding in report.findings), "what was left out is told"
