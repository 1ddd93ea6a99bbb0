"""Edits of the arguments of calls."""

from __future__ import annotations

from doctor.patches.edits.base import Edit

Value = bool | int | float | str


class ReplaceArgument(Edit):
    """Give an argument of a call another value (a string is an expression).

    `call` are names that the function may have, without its module; none means the call that has this argument.
    `position` is its place among positional arguments. Where the argument is a name, `follow` changes the one place
    where its value stands: a constant, a default of a parameter, of argparse or of a dataclass, an entry of a
    dictionary. A missing argument is added when `add`. `anywhere` looks for the call in the whole file, if it is not on
    the finding's line.
    """

    call: tuple[str, ...] = ()
    keyword: str
    value: Value
    position: int | None = None
    follow: bool = True
    add: bool = True
    anywhere: bool = False

    def describe(self) -> str:
        return f"{self.keyword}={self.value}"
