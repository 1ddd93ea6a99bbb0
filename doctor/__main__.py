"""`python -m doctor`."""

import sys

# `-m` puts the working folder first on sys.path, where a user's own module could stand in for one of ours.
if sys.path and sys.path[0] in ("", __import__("os").getcwd()):
    del sys.path[0]

from doctor.cli import main

if __name__ == "__main__":
    main(prog_name="doctor")
