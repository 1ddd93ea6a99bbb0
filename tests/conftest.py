import os
import sys
from pathlib import Path

import pytest

# Several workers at once, each with programs of its own: one thread for each is the fastest.
os.environ.setdefault("OMP_NUM_THREADS", "1")

pytest_plugins = ["pytester"]
FIXTURES = Path(__file__).resolve().parent.parent / "fixtures"


@pytest.fixture
def write_script(tmp_path, monkeypatch):
    """Write a script into an empty folder, go there, and give its name."""

    def write(text: str, name: str = "train.py") -> str:
        (tmp_path / name).write_text(text, encoding="utf-8")
        monkeypatch.chdir(tmp_path)
        return name

    return write


@pytest.fixture
def run_doctor(tmp_path):
    """Run the installed command; give the finished process."""
    import subprocess

    def run(*arguments: str, cwd: Path | None = None, timeout: float = 240):
        command = [sys.executable, "-m", "doctor", *arguments]
        return subprocess.run(command, cwd=cwd or tmp_path, capture_output=True, text=True, timeout=timeout)

    return run
