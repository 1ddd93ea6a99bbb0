"""How the observed run went: its end, its counts, its crash."""

from __future__ import annotations

from dataclasses import dataclass

from doctor.evidence.base import Evidence, Source
from doctor.evidence.recording import Recording, source, sources
from doctor.probes import probe


@dataclass(frozen=True)
class Crash:
    """The exception that ended the program.

    `source` is the innermost line of the user's own code, `frames` all of the user's lines from the outside in.
    `module` is the path of the innermost running `nn.Module` (`encoder.fc2`), `module_text` its `repr`,
    `input_shapes` what it was called with; empty outside a module. `operation` is the last aten op, if known.
    """

    type: str
    message: str
    source: Source | None = None
    frames: tuple[Source, ...] = ()
    module: str = ""
    module_text: str = ""
    input_shapes: tuple[tuple[int, ...], ...] = ()
    operation: str = ""


@dataclass(frozen=True)
class ProgramRun(Evidence):
    """Counts and end of the observed run.

    `outcome` is one of `finished` (the script ended by itself), `budget` (stopped after the step budget),
    `crashed`, `exited` (a non-zero `sys.exit`), `timeout`, `killed`.
    `steps` counts optimizer steps; forwards are calls of root modules.
    """

    outcome: str
    steps: int = 0
    forwards: int = 0
    training_forwards: int = 0
    backwards: int = 0
    zero_grads: int = 0
    optimizers: int = 0
    seconds: float = 0.0
    script: str = ""
    torch_imported: bool = True
    exit_code: int | None = None
    crash: Crash | None = None
    forward_source: Source | None = None
    backward_source: Source | None = None
    step_source: Source | None = None
    loss_source: Source | None = None
    gradient_clips: int = 0
    manual_updates: int = 0
    notes: tuple[str, ...] = ()

    @property
    def ending(self) -> str:
        """How the run ended, in words."""
        words = {
            "finished": "the program ended by itself",
            "budget": f"stopped after {self.steps} optimizer steps",
            "crashed": f"the program crashed after {self.steps} optimizer steps",
            "exited": f"the program exited with status {self.exit_code}",
            "timeout": "stopped at the time limit",
            "killed": "the program was killed",
        }
        return words.get(self.outcome, self.outcome)


@probe
def program_run(recording: Recording) -> ProgramRun:
    """Read the run's counts and its end."""
    start, end = recording.start, recording.end
    lines = end.get("sources") or {}
    raw = end.get("crash")
    crash = None
    if raw:
        frames = tuple(sources(raw.get("frames")))
        crash = Crash(
            type=raw["type"],
            message=raw["message"],
            source=frames[-1] if frames else None,
            frames=frames,
            module=raw.get("module", ""),
            module_text=raw.get("module_text", ""),
            input_shapes=tuple(tuple(shape) for shape in raw.get("input_shapes", ())),
        )
    entries = recording.of("entry")
    return ProgramRun(
        outcome=end.get("outcome", "killed"),
        steps=end.get("steps", len(recording.of("step"))),
        forwards=end.get("forwards", 0),
        training_forwards=sum(entry["grad_enabled"] for entry in entries),
        backwards=end.get("backwards", len(recording.of("backward"))),
        zero_grads=end.get("zero_grads", 0),
        optimizers=len(recording.of("optimizer-end")),
        seconds=end.get("seconds", 0.0),
        script=start.get("target", ""),
        torch_imported=end.get("torch_imported", start.get("torch") is not None),
        exit_code=end.get("exit_code"),
        crash=crash,
        forward_source=source(lines.get("forward")),
        backward_source=source(lines.get("backward")),
        step_source=source(lines.get("step")),
        gradient_clips=end.get("clips", 0),
        manual_updates=end.get("manual_updates", 0),
        notes=tuple(end.get("notes", ())),
    )
