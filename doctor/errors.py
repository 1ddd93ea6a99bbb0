"""The one exception family whose members a user is meant to read."""


class DoctorError(Exception):
    """A mistake or obstacle that the user can remove; printed as one line, exit status 2.

    `cure` says what to do about it, in the imperative.
    """

    def __init__(self, message: str, cure: str | None = None) -> None:
        super().__init__(message)
        self.message = message
        self.cure = cure

    def __str__(self) -> str:
        return f"{self.message}; {self.cure}" if self.cure else self.message


class DeclarationError(DoctorError):
    """A rule, probe or treatment is declared wrongly; the mistake of a rule's author."""


class OutOfMemory(DoctorError):
    """The memory that the user allowed is too little for a question; no answer would be whole without it."""


class Unavailable(Exception):
    """Evidence cannot be had from this subject; the reason silences the rules that need it.

    `crashed` where it could be had and its probe failed, which no other reason may hide.
    """

    def __init__(self, reason: str = "", crashed: bool = False) -> None:
        super().__init__(reason)
        self.crashed = crashed
