"""The gate's certificate, as a deployment step meets it."""

import json

import numpy
import pytest
from click.testing import CliRunner
from safetensors.numpy import save_file

from doctor import attestation
from doctor.cli import main


@pytest.fixture
def folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    save_file({"a.weight": numpy.ones((4, 4), numpy.float32)}, "net.safetensors")
    return tmp_path


def gate(*arguments):
    return CliRunner().invoke(main, ["gate", *map(str, arguments)])


def verify(target, *more):
    return gate("--verify", "gate.json", target, *more)


def test_what_passed_verifies_also_under_another_name(folder):
    assert gate("net.safetensors", "--attest", "gate.json").exit_code == 0
    made = json.loads((folder / "gate.json").read_text())
    assert made["_type"] == "https://in-toto.io/Statement/v1"
    assert [file["name"] for file in made["subject"]] == ["net.safetensors"]
    judged = made["predicate"]
    assert judged["verdict"] == "passed"
    assert judged["looked"]["FIL001"] == {"most": 10}
    assert judged["versions"]["doctor"]
    done = verify("net.safetensors")
    assert done.exit_code == 0
    assert done.output.startswith("net.safetensors: verified; judged ")
    (folder / "net.safetensors").rename(folder / "production.safetensors")
    assert verify("production.safetensors").exit_code == 0


def test_one_changed_byte_is_named(folder):
    gate("net.safetensors", "--attest", "gate.json")
    data = bytearray((folder / "net.safetensors").read_bytes())
    data[-1] ^= 1
    (folder / "net.safetensors").write_bytes(data)
    done = verify("net.safetensors")
    assert done.exit_code == 1
    assert "net.safetensors: differs from what was judged" in done.output


def test_what_failed_does_not_verify_whatever_the_exit_status_was(folder):
    (folder / "net.safetensors").write_bytes((folder / "net.safetensors").read_bytes()[:-4])
    assert gate("net.safetensors", "--attest", "gate.json", "--exit-zero").exit_code == 0
    done = verify("net.safetensors")
    assert done.exit_code == 1
    assert "the gate had failed: error FIL001" in done.output
    assert verify("net.safetensors", "--exit-zero").exit_code == 1


def test_an_accepted_finding_passes_and_is_told(folder):
    (folder / "net.safetensors").write_bytes((folder / "net.safetensors").read_bytes()[:-4])
    gate("net.safetensors", "--write-baseline", "base.json", "--reason", "known")
    gate("net.safetensors", "--baseline", "base.json", "--attest", "gate.json")
    done = verify("net.safetensors")
    assert done.exit_code == 0
    assert "note: accepted by baseline: FIL001" in done.output


def test_an_edited_certificate_does_not_verify(folder):
    (folder / "net.safetensors").write_bytes((folder / "net.safetensors").read_bytes()[:-4])
    gate("net.safetensors", "--attest", "gate.json")
    text = (folder / "gate.json").read_text().replace('"failed"', '"passed"')
    (folder / "gate.json").write_text(text)
    done = verify("net.safetensors")
    assert done.exit_code == 1
    assert "changed after it was written" in done.output


def test_rules_that_did_not_look_are_told_and_may_be_required(folder):
    gate("net.safetensors", "--attest", "gate.json", "--select", "FIL001")
    assert verify("net.safetensors").exit_code == 0
    done = verify("net.safetensors", "--require", "corrupt-file,unsafe-pickle")
    assert done.exit_code == 1
    assert "required rule FIL002 did not look" in done.output


def test_a_required_rule_that_did_not_look_fails_the_gate_and_the_certificate(folder):
    (folder / "pyproject.toml").write_text('[tool.doctor.gate]\nrequire = ["OPT003"]\n')
    done = gate("net.safetensors", "--attest", "gate.json")
    assert done.exit_code == 1
    assert "OPT003 did not look" in verify("net.safetensors").output


def test_every_file_of_a_folder_counts(folder):
    model = folder / "model"
    model.mkdir()
    (folder / "net.safetensors").rename(model / "model.safetensors")
    (model / "config.json").write_text("{}")
    gate("model", "--attest", "model/gate.json", "--fail-on", "never")
    made = json.loads((model / "gate.json").read_text())
    assert {file["name"] for file in made["subject"]} == {"config.json", "model.safetensors"}
    (model / "gate.json").rename(folder / "gate.json")
    assert verify("model").exit_code == 0
    (model / "modeling_net.py").write_text("import os\n")
    assert "modeling_net.py: was not there when the gate judged" in verify("model").output
    (model / "modeling_net.py").unlink()
    (model / "config.json").unlink()
    done = verify("model")
    assert done.exit_code == 1
    assert "config.json: missing" in done.output


@pytest.mark.parametrize("text", ["", "{}", "[1]", '{"_type": "x"}'])
def test_what_is_no_certificate_is_one_clear_line(folder, text):
    (folder / "gate.json").write_text(text)
    done = verify("net.safetensors")
    assert done.exit_code == 2
    assert "is no certificate of the gate" in done.output


def test_a_certificate_cannot_make_us_read_elsewhere(folder):
    gate("net.safetensors", "--attest", "gate.json")
    text = (folder / "gate.json").read_text().replace('"name": "net.safetensors"', '"name": "../secret"')
    (folder / "gate.json").write_text(text)
    done = verify("net.safetensors")
    assert done.exit_code == 2
    assert "outside the artifact" in done.output


def test_a_missing_artifact_or_certificate_is_status_2(folder):
    assert verify("net.safetensors").exit_code == 2
    gate("net.safetensors", "--attest", "gate.json")
    assert verify("none.safetensors").exit_code == 2


def test_a_file_written_to_while_it_is_judged_is_not_attested(folder, monkeypatch):
    real = attestation.attest

    def meddling(*arguments, **more):
        made = real(*arguments, **more)
        (folder / "net.safetensors").write_bytes(b"other")
        return made

    monkeypatch.setattr(attestation, "attest", meddling)
    done = gate("net.safetensors", "--attest", "gate.json")
    assert done.exit_code == 2
    assert "written to while it was judged" in done.output
    assert not (folder / "gate.json").exists()
