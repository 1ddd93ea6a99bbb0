"""Evaluations that lack whole classes."""

from doctor.evidence.base import Source
from doctor.evidence.batch_log import BatchLog, LoaderRecord
from doctor.evidence.class_agreement import Agreement, ClassAgreement
from doctor.evidence.data_lines import DataLine, DataLines
from doctor.testing import findings_of

TRAINING = ((100, 0, 0), (0, 100, 0), (0, 0, 100))
HERE = Source("train.py", 60)


def judged(evaluation, length=100, lines=None):
    loaders = (
        LoaderRecord(0, "Rows", 900, 30, True, used_in_training=True),
        LoaderRecord(1, "Rows", length, 30, False),
    )
    records = [ClassAgreement((Agreement(TRAINING, evaluation, 1, HERE),)), BatchLog(loaders=loaders)]
    return findings_of("DAT015", *records, *([lines] if lines else []))


def test_an_evaluation_of_the_last_class_alone_fires_where_the_split_is_made():
    (finding,) = judged(((0, 0, 0), (0, 0, 0), (0, 30, 90)))
    assert (finding.name, finding.location.line) == ("distribution-drift", 60)
    assert "class 0, 1" in finding.message
    split = DataLines((DataLine("split", "random_split", Source("train.py", 12), ("a", "b")),))
    assert judged(((0, 0, 0), (0, 0, 0), (0, 30, 90)), lines=split)[0].location.line == 12


def test_a_part_of_a_sorted_evaluation_and_uneven_classes_are_silent():
    assert not judged(((0, 0, 0), (0, 0, 0), (0, 30, 90)), length=1000)
    assert not judged(((60, 0, 0), (0, 40, 0), (0, 0, 20)))
    assert not judged(((0, 0, 0), (0, 0, 0), (0, 10, 30)))
