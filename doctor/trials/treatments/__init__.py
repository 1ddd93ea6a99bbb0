"""Treatments: remedies in executable form, as plain data.

A rule attaches one to its finding; `doctor.trials.interventions` knows how to apply it to a running program.
Nothing here imports torch. `kind` names the intervention and is what travels to the observed process.
"""

from doctor.trials.treatments.base import Experiment, Place, Treatment
from doctor.trials.treatments.data import AlignTarget, ShuffleData, StandardiseInputs
from doctor.trials.treatments.experiments import EvaluateInEvalMode
from doctor.trials.treatments.layers import BypassActivation, InsertActivation, Reinitialise, ReplaceActivation
from doctor.trials.treatments.optimizer import (
    BackwardBeforeStep,
    ClearGradients,
    ClipGradients,
    OptimizeReachedParameters,
    ScaleLearningRate,
    SearchLearningRate,
    StepAfterBackward,
)

__all__ = [
    "AlignTarget",
    "BackwardBeforeStep",
    "BypassActivation",
    "ClearGradients",
    "ClipGradients",
    "EvaluateInEvalMode",
    "Experiment",
    "InsertActivation",
    "OptimizeReachedParameters",
    "Place",
    "Reinitialise",
    "ReplaceActivation",
    "ScaleLearningRate",
    "SearchLearningRate",
    "ShuffleData",
    "StandardiseInputs",
    "StepAfterBackward",
    "Treatment",
]
