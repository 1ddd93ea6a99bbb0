"""What pre-commit calls: options, then any number of files, each judged by itself."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from pathlib import Path


def main(arguments: Sequence[str] | None = None) -> int:
    """Run `COMMAND [OPTIONS] FILES...` file by file; the worst exit status.

    The files are the last arguments, as far back as they exist; the value of an option goes with an equals sign
    (`--inputs=sample.npz`), so that it is none of them.
    """
    command, *rest = sys.argv[1:] if arguments is None else arguments
    first = len(rest)
    while first and not rest[first - 1].startswith("-") and Path(rest[first - 1]).exists():
        first -= 1
    options, files = rest[:first], rest[first:]
    return max((_run(command, file, options) for file in files), default=0)


def _run(command: str, file: str, options: Sequence[str]) -> int:
    from doctor.cli import main as doctor

    try:
        doctor.main([command, file, *options], prog_name="doctor")
    except SystemExit as done:
        return done.code if isinstance(done.code, int) else int(done.code is not None)
    return 0


if __name__ == "__main__":
    sys.exit(main())
