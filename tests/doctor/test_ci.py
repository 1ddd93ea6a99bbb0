"""The GitHub action, the pre-commit hooks and the examples of docs/ci.md, as far as a machine without GitHub can tell."""

import json
import os
import re
import subprocess
import sys
from pathlib import Path

import numpy
import pytest
import yaml
from safetensors.numpy import save_file

from doctor.cli import main as cli
from doctor.integrations import pre_commit

ROOT = Path(__file__).resolve().parents[2]
ACTION = ROOT / ".github/actions/doctor"


@pytest.fixture
def models(tmp_path, monkeypatch):
    """A whole and a broken file of weights."""
    monkeypatch.chdir(tmp_path)
    save_file({"a": numpy.ones(64, numpy.float32)}, "whole.safetensors")
    Path("broken.safetensors").write_bytes(Path("whole.safetensors").read_bytes()[:-8])
    return tmp_path


def examine(folder, target, **inputs):
    """Run the action's script as GitHub would; its exit status, output, and what it told GitHub."""
    (folder / "output").write_text("")
    given = {"COMMAND": "gate", "TARGET": target, "OPTIONS": "", "SCRIPT_ARGUMENTS": "", "SARIF": "d.sarif", "HTML": ""}
    environment = {
        **os.environ,
        **{f"DOCTOR_{name}": value for name, value in {**given, **inputs}.items()},
        "PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}",
        "GITHUB_OUTPUT": str(folder / "output"),
        "GITHUB_STEP_SUMMARY": str(folder / "summary.md"),
        "GITHUB_WORKSPACE": str(folder),
        "RUNNER_TEMP": str(folder),
    }
    done = subprocess.run(
        ["bash", ACTION / "examine.sh"], cwd=folder, env=environment, capture_output=True, text=True, timeout=120
    )
    told = dict(line.split("=", 1) for line in (folder / "output").read_text().splitlines())
    return done, told


def test_the_action_annotates_writes_reports_and_passes_the_status_on(models):
    done, told = examine(models, "broken.safetensors", HTML="d.html")
    assert done.returncode == 1, done.stderr
    assert done.stdout.startswith("::error title=FIL001")
    assert told["status"] == "1"
    assert told["sarif"] == "d.sarif"
    assert "corrupt-file" in (models / "summary.md").read_text()
    assert (models / "d.html").read_text().startswith("<!doctype html>")
    done, told = examine(models, "whole.safetensors", OPTIONS="--fail-on\nerror\n--select=FIL001\n")
    assert (done.returncode, told["status"]) == (0, "0")


def test_what_is_uploaded_holds_no_accepted_findings(models):
    from click.testing import CliRunner

    CliRunner().invoke(cli, ["gate", "broken.safetensors", "--write-baseline", "base.json", "--reason", "known"])
    done, told = examine(models, "broken.safetensors", OPTIONS="--baseline=base.json")
    assert done.returncode == 0, done.stderr
    assert json.loads((models / told["sarif"]).read_text())["runs"][0]["results"][0]["suppressions"]
    assert json.loads(Path(told["upload"]).read_text())["runs"][0]["results"] == []


@pytest.mark.parametrize("target", ["$(touch pwned)", "x; touch pwned", "`touch pwned`", "none.safetensors"])
def test_inputs_are_texts_and_a_failure_leaves_no_stale_report(models, target):
    (models / "d.sarif").write_text("stale")
    done, told = examine(models, target)
    assert done.returncode == 2
    assert told == {"status": "2"}
    assert not (models / "pwned").exists()


def test_no_input_is_a_part_of_a_script_and_foreign_actions_are_pinned():
    steps = yaml.safe_load((ACTION / "action.yml").read_text())["runs"]["steps"]
    for step in steps:
        assert "${{" not in step.get("run", "")
        if "uses" in step:
            assert re.fullmatch(r"[\w./-]+@[0-9a-f]{40}", step["uses"])


def test_every_input_is_used():
    text = (ACTION / "action.yml").read_text()
    for name in yaml.safe_load(text)["inputs"]:
        assert f"inputs.{name} " in text or f"inputs.{name} }}" in text, name


def filled(text, inputs, outputs):
    """A text of action.yml as the runner fills it in."""
    known = {f"inputs.{name}": value for name, value in inputs.items()} | outputs | {"github.action_path": str(ACTION)}
    return re.sub(r"\$\{\{ *([\w.-]+) *\}\}", lambda match: known[match[1]], text)


def act(folder, path=None, **given):
    """Run the action's `run:` steps as the runner does: defaults, environment, folder, shell; status and outputs.

    The runner stops at the first step that fails; `always()` concerns the foreign step only.
    """
    action = yaml.safe_load((ACTION / "action.yml").read_text())
    inputs = {name: str(about.get("default", "")) for name, about in action["inputs"].items()}
    inputs |= {name.replace("_", "-"): value for name, value in given.items()}
    outputs, status, said = {}, 0, ""
    (folder / "summary.md").write_text("")
    for step in action["runs"]["steps"]:
        if "run" not in step:
            continue
        assert step["shell"] == "bash"
        script, told = folder / "step.sh", folder / "told"
        script.write_text(filled(step["run"], inputs, outputs))
        told.write_text("")
        environment = {
            **os.environ,
            **{name: filled(value, inputs, outputs) for name, value in step.get("env", {}).items()},
            "PATH": f"{path or Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}",
            "GITHUB_OUTPUT": str(told),
            "GITHUB_STEP_SUMMARY": str(folder / "summary.md"),
            "GITHUB_WORKSPACE": str(folder),
            "RUNNER_TEMP": str(folder),
        }
        where = folder / filled(step.get("working-directory", "."), inputs, outputs)
        command = ["bash", "--noprofile", "--norc", "-eo", "pipefail", str(script)]
        done = subprocess.run(command, cwd=where, env=environment, capture_output=True, text=True, timeout=120)
        status, said = done.returncode, said + done.stdout + done.stderr
        lines = (line.split("=", 1) for line in told.read_text().splitlines())
        outputs |= {f"steps.{step.get('id')}.outputs.{name}": value for name, value in lines}
        if status:
            break
    results = {name: filled(about["value"], inputs, EMPTY | outputs) for name, about in action["outputs"].items()}
    return status, results, said


EMPTY = {f"steps.examine.outputs.{name}": "" for name in ("status", "sarif", "upload")}


def test_the_steps_of_the_action_run_in_the_working_directory_with_their_defaults(models):
    (models / "shop").mkdir()
    (models / "broken.safetensors").rename(models / "shop/broken.safetensors")
    status, results, said = act(models, command="gate", target="broken.safetensors", working_directory="shop")
    assert status == 1, said
    assert "::error title=FIL001" in said
    assert results == {"status": "1", "sarif": "shop/doctor.sarif"}
    assert json.loads((models / results["sarif"]).read_text())["version"] == "2.1.0"
    assert "corrupt-file" in (models / "summary.md").read_text()
    status, results, said = act(models, command="gate", target="whole.safetensors", options="--fail-on=error")
    assert (status, results["status"]) == (0, "0"), said


@pytest.mark.parametrize(
    ("requirement", "wanted"), [("", str(ACTION / "../../..")), ("shop-doctor[gate]==1", "shop-doctor[gate]==1")]
)
def test_the_action_installs_itself_where_no_doctor_is(models, requirement, wanted):
    """With a python that cannot import it, and writes down what it was called with."""
    shim = models / "bin/python"
    shim.parent.mkdir()
    shim.write_text('#!/bin/sh\n[ "$1" = -c ] && exit 1\nfor word; do echo "$word" >> "$PWD/called"; done\nexit 7\n')
    shim.chmod(0o755)
    status, results, _ = act(
        models, path=shim.parent, command="gate", target="whole.safetensors", requirement=requirement
    )
    assert status == 7
    assert results["status"] == ""
    assert (models / "called").read_text().split() == ["-m", "pip", "install", "--disable-pip-version-check", wanted]


def test_what_the_action_installs_from_is_this_repository():
    assert (ACTION / "../../.." / "pyproject.toml").is_file()
    assert (ACTION / "../../..").resolve() == ROOT


def test_a_command_that_is_none_stops_the_action(models):
    status, results, said = act(models, command="explode", target="whole.safetensors")
    assert (status, results["status"]) == (2, "")
    assert said.startswith("::error::")


def test_pre_commit_judges_file_by_file_and_gives_the_worst_status(models, capsys):
    assert pre_commit.main(["gate", "whole.safetensors"]) == 0
    assert pre_commit.main(["gate", "--select", "FIL001", "broken.safetensors", "whole.safetensors"]) == 1
    assert "broken.safetensors" in capsys.readouterr().out
    assert pre_commit.main(["gate", "--fail-on=never", "broken.safetensors"]) == 0
    assert pre_commit.main(["gate"]) == 0


def test_the_hooks_name_commands_that_exist():
    import tomllib

    scripts = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["scripts"]
    hooks = yaml.safe_load((ROOT / ".pre-commit-hooks.yaml").read_text())
    for hook in hooks:
        command, subcommand = hook["entry"].split()
        assert command in scripts
        assert subcommand in cli.commands
    pattern = re.compile(hooks[0]["files"])
    assert pattern.search("models/net.onnx")
    assert pattern.search("pytorch_model-00001-of-00002.bin")
    assert not pattern.search("train.py")


def test_the_examples_of_the_documentation_are_valid():
    text = (ROOT / "docs/ci.md").read_text()
    blocks = re.findall(r"```(yaml|toml|json)\n(.*?)```", text, re.S)
    assert len(blocks) >= 5
    for language, block in blocks:
        if language == "yaml":
            assert yaml.safe_load(block)
        elif language == "json":
            assert json.loads(block)
        else:
            import tomllib

            from doctor.config import Settings

            Settings.model_validate(tomllib.loads(block)["tool"]["doctor"])


def test_every_option_of_the_documentation_exists():
    text = (ROOT / "docs/ci.md").read_text()
    known = {name for command in cli.commands.values() for option in command.params for name in option.opts}
    for option in re.findall(r"(?<![\w-])--[a-z][a-z-]+", text):
        assert option in known or option == "--epochs", option
