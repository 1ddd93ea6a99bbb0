"""What the wheel holds, and that the tree keeps its layers."""

import subprocess
import sys
import tomllib
import zipfile
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())


def test_every_package_of_the_tree_is_listed():
    found = {".".join(path.parent.relative_to(ROOT).parts) for path in (ROOT / "doctor").rglob("__init__.py")}
    rules = {".".join(path.parent.relative_to(ROOT).parts) for path in (ROOT / "checks").rglob("__init__.py")}
    assert found | {f"doctor.{name}" for name in rules} == set(PROJECT["tool"]["setuptools"]["packages"])


def test_the_wheel_holds_the_rules_and_no_top_level_checks(tmp_path):
    command = [
        sys.executable,
        "-m",
        "pip",
        "wheel",
        "--no-deps",
        "--no-build-isolation",
        "-q",
        "-w",
        str(tmp_path),
        str(ROOT),
    ]
    subprocess.run(command, check=True, capture_output=True)
    (wheel,) = tmp_path.glob("*.whl")
    names = zipfile.ZipFile(wheel).namelist()
    assert "doctor/checks/optimizer/zero_grad.py" in names
    assert "doctor/reports/report.html.jinja" in names
    assert not [name for name in names if name.startswith(("checks/", "fixtures/", "tests/"))]


def test_layers_look_one_way():
    command = [str(Path(sys.executable).parent / "lint-imports")]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout
