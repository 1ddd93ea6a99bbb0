"""Optimizers whose tensors were replaced."""

from doctor.evidence.base import Source
from doctor.evidence.module_tree import ModuleTree, ParameterRecord, RootRecord
from doctor.evidence.optimizer_log import MissedParameter, OptimizerLog, OptimizerRecord
from doctor.testing import findings_of

HERE = Source("train.py", 7, "main")
MISSED = (MissedParameter("head.weight", (3, 64), True, module="head"),)


def log(*names, missed=MISSED):
    held = OptimizerRecord(0, "SGD", ("body.weight", *names), created=HERE, steps=20)
    return OptimizerLog((held,), missed, steps=20)


def tree(*more):
    body = ParameterRecord("body.weight", (64, 13), optimizer=0, reached=3)
    head = ParameterRecord("head.weight", (3, 64), module="head", reached=3, created=Source("train.py", 8))
    roots = (RootRecord(0, "Net", 900, 900, forwards=20), RootRecord(1, "Net", 900, 900))
    return ModuleTree(roots, (), (body, head, *more))


def test_a_head_that_was_swapped_after_the_optimizer_fires_and_is_no_missing_parameter():
    old = ParameterRecord("<tensor 10x64 #0>", (10, 64), root=None, registered=False, optimizer=0)
    evidence = (log("<tensor 10x64 #0>"), tree(old))
    (finding,) = findings_of("OPT006", *evidence)
    assert (finding.name, finding.location.line) == ("stale-optimizer", 7)
    assert finding.related[0].location.line == 8
    assert not findings_of("OPT005", *evidence)


def test_the_parameters_of_a_model_that_is_never_called_are_stale():
    old = ParameterRecord("Net#1.head.weight", (10, 64), root=1, optimizer=0)
    assert findings_of("OPT006", log("Net#1.head.weight"), tree(old))


def test_a_layer_that_was_forgotten_is_missing_and_not_stale():
    assert not findings_of("OPT006", log(), tree())
    assert findings_of("OPT005", log(), tree())


def test_an_unused_layer_of_the_called_model_is_not_stale():
    unused = ParameterRecord("pooler.weight", (64, 64), optimizer=0)
    assert not findings_of("OPT006", log("pooler.weight", missed=()), tree(unused))
    assert not findings_of("OPT006", log("pooler.weight"), tree(unused))
