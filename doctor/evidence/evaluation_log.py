"""Forwards that no backward followed: validation, testing, generation."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from doctor.evidence.base import Evidence, Source
from doctor.evidence.recording import Recording, source
from doctor.probes import probe


@dataclass(frozen=True)
class EvaluationPlace:
    """One user's line from which a root module was called for evaluation.

    A forward counts as evaluation when gradients are disabled, or when its line never led to a backward.
    `train_mode` counts its forwards with the root in training mode. `mode_sensitive` lists the modules whose result
    depends on the mode and which were in training mode there (`drop (Dropout p=0.5)`, `bn1 (BatchNorm2d)`).
    `after_training` is true when some optimizer step came before; `again` counts the forwards on what the one before
    them has just read.
    """

    root: int
    root_kind: str
    source: Source | None
    forwards: int
    train_mode: int
    grad_enabled: int
    mode_sensitive: tuple[str, ...] = ()
    after_training: bool = True
    during_training_window: bool = False
    again: int = 0


@dataclass(frozen=True)
class EvaluationLog(Evidence):
    """All evaluation places, and the mode of the training forwards."""

    places: tuple[EvaluationPlace, ...] = ()
    training_forwards: int = 0
    training_forwards_in_eval_mode: int = 0
    training_source: Source | None = None
    eval_call_source: Source | None = None


@probe
def evaluation_log(recording: Recording) -> EvaluationLog:
    """Read which forwards were evaluation: without gradients, or from a line that never led to a backward."""
    entries = recording.some("entry", "no forward of a model was seen")
    # Marks in the graph tell of every backward; walking tells of the first that follows a forward only.
    used = {(event["root"], *event["line"]) for event in recording.of("forward") if event["used"] and event["line"]}
    training = [e for e in entries if e["trained"] or (e["line"] and (e["root"], *e["line"]) in used)]
    shared = [_without_gradients(e) for e in training if e["grad_enabled"] and e["forwards"] > e["grad_enabled"]]
    places = tuple(
        EvaluationPlace(
            root=entry["root"],
            root_kind=entry["root_kind"],
            source=source(entry["line"]),
            forwards=entry["forwards"],
            train_mode=entry["train_mode"],
            grad_enabled=entry["grad_enabled"],
            mode_sensitive=tuple(entry["mode_sensitive"]),
            after_training=entry["after_training"],
            during_training_window=entry["within_window"] > 0,
            again=entry.get("again", 0),
        )
        for entry in (*entries, *shared)
        if entry not in training and (entry["grad_enabled"] == 0 or entry["untrained"] > 0 or not entry["grad_enabled"])
    )
    forwards = sum(entry["grad_enabled"] for entry in training)
    in_training_mode = sum(min(entry["train_mode"], entry["grad_enabled"]) for entry in training)
    return EvaluationLog(
        places=places,
        training_forwards=forwards,
        training_forwards_in_eval_mode=forwards - in_training_mode,
        training_source=source(training[0]["line"]) if training else None,
    )


def _without_gradients(entry: dict[str, Any]) -> dict[str, Any]:
    """The forwards of a line that trains and evaluates by turns which ran without gradients."""
    count = entry["forwards"] - entry["grad_enabled"]
    return {**entry, "forwards": count, "train_mode": max(0, entry["train_mode"] - entry["grad_enabled"]), "grad_enabled": 0,
            "untrained": count}  # fmt: skip
