"""Metrics and what they are computed on, on evidence made by hand."""

from doctor.evidence.base import Source
from doctor.evidence.batch_log import BatchLog, LoaderRecord
from doctor.evidence.evaluation_losses import EvaluationLosses
from doctor.evidence.evaluation_use import Collapse, Division, EvaluatedRows, EvaluationUse, Window
from doctor.evidence.loss_calls import LossCall, LossCalls
from doctor.evidence.op_tape import Op, Tape, TensorNote
from doctor.evidence.training_trace import Step, TrainingTrace
from doctor.testing import findings_of

HERE, MADE = Source("train.py", 30), Source("train.py", 12)


def note(number, shape):
    return TensorNote(number, shape, "float32")


def window(*ops):
    return EvaluationUse((Window(1, ops[0].inputs[0].shape, Tape(3, ops), HERE),))


def op(index, name, inputs, output, **arguments):
    return Op(index, name, tuple(inputs), (output,), source=HERE, arguments=arguments)


def losses(function):
    return LossCalls((LossCall(function, HERE, (32, 10), (32,), "int64"),))


class TestMetricBug:
    def test_argmax_over_samples_fires_and_over_classes_is_silent(self):
        wrong = window(op(0, "argmax", [note(1, (32, 10))], note(2, (10,)), dim=0))
        right = window(op(0, "argmax", [note(1, (32, 10))], note(2, (32,)), dim=-1))
        assert findings_of("EVL006", wrong, losses("cross_entropy"))[0].location.line == 30
        assert not findings_of("EVL006", right, losses("cross_entropy"))

    def test_argmax_of_one_output_is_always_zero(self):
        assert findings_of("EVL006", window(op(0, "argmax", [note(1, (32, 1))], note(2, (32,)), dim=1)))

    def test_a_column_against_a_row_fires(self):
        assert findings_of("EVL006", window(op(0, "eq", [note(1, (32, 1)), note(9, (32,))], note(2, (32, 32)))))

    def test_equal_shapes_and_pairs_of_predictions_are_silent(self):
        assert not findings_of("EVL006", window(op(0, "eq", [note(1, (32,)), note(9, (32,))], note(2, (32,)))))
        assert not findings_of("EVL006", window(op(0, "sub", [note(1, (32, 1)), note(1, (32,))], note(2, (32, 32)))))

    def test_logits_against_a_half_are_a_warning(self):
        use = window(op(0, "gt", [note(1, (32, 1))], note(2, (32, 1)), other=0.5))
        (finding,) = findings_of("EVL006", use, losses("binary_cross_entropy_with_logits"))
        assert finding.level == "warning"
        assert not findings_of("EVL006", use, losses("binary_cross_entropy"))

    def test_correct_samples_by_batches_fire_and_by_samples_are_silent(self):
        def division(kind, counts, size=64):
            return EvaluationUse(divisions=(Division("correct", kind, "len(loader)", counts, size, HERE),))

        assert findings_of("EVL006", division("correct", "batches"))[0].level == "error"
        assert findings_of("EVL006", division("loss-mean", "samples"))[0].level == "warning"
        assert not findings_of("EVL006", division("correct", "samples"))
        assert not findings_of("EVL006", division("loss-mean", "batches"))
        assert not findings_of("EVL006", division("correct", "batches", size=1))

    def test_one_number_for_all_labels_fires(self):
        use = EvaluationUse(collapses=(Collapse("logits.argmax()", (32, 10), HERE),))
        (finding,) = findings_of("EVL006", use)
        assert (finding.location.line, finding.level) == (30, "error")
        assert "32 samples" in finding.message


class TestEvalOnTrain:
    def place(self, text="accuracy(val_loader)", **changes):
        fields = {"rows": 400, "trained": 400, "shared": 400, "texts": (text,), "lines": (HERE,), "loaders": (1,)}
        return EvaluatedRows(HERE, **{**fields, **changes})

    def log(self):
        loaders = (LoaderRecord(0, "D", 400, 32, True, used_in_training=True, batches=9),
                   LoaderRecord(1, "D", 400, 128, False, source=MADE, batches=4))  # fmt: skip
        return BatchLog(loaders=loaders)

    def test_a_validation_loader_over_the_training_set_fires_where_it_is_made(self):
        use = EvaluationUse(places=(self.place(),), datasets=((0, (1, 2)), (1, (1, 2))))
        assert findings_of("EVL005", use, self.log())[0].location.line == 12

    def test_a_test_set_that_training_holds_beside_others_is_leakage(self):
        (finding,) = findings_of("EVL005", EvaluationUse(places=(self.place(trained=2000),)), self.log())
        assert "train-test-leakage" in finding.faults
        (finding,) = findings_of("EVL005", EvaluationUse(places=(self.place(),)), self.log())
        assert "train-test-leakage" not in finding.faults

    def test_training_accuracy_besides_another_set_is_silent(self):
        use = EvaluationUse(places=(self.place(), self.place(shared=0)))
        assert not findings_of("EVL005", use, self.log())

    def test_rows_of_a_few_coarse_columns_are_alike_by_nature(self):
        assert not findings_of("EVL005", EvaluationUse(places=(self.place(repeated=0.3),)), self.log())

    def test_training_accuracy_told_as_such_is_silent(self):
        assert not findings_of("EVL005", EvaluationUse(places=(self.place("train_accuracy = score(x)"),)), self.log())

    def test_training_samples_are_evaluated_while_the_held_out_ones_are_never_read(self):
        (finding,) = findings_of(
            "EVL005", EvaluationUse(places=(self.place("score(x)", unread=("x_test",)),)), BatchLog()
        )
        assert "x_test is never read" in finding.message
        assert not findings_of("EVL005", EvaluationUse(places=(self.place("score(x)"),)), BatchLog())

    def test_a_graph_whose_split_is_a_mask_is_silent(self):
        assert not findings_of("EVL005", EvaluationUse(places=(self.place(whole=True),)), self.log())


class TestOverfit:
    def trace(self):
        return TrainingTrace(tuple(Step(i, 0, 1.0 * 0.9**i, 0.1, 1.0, 1.0, 1e-3) for i in range(40)))

    def test_a_rising_evaluation_loss_is_info(self):
        values = tuple((step, value) for step, value in zip(range(10, 60, 10), (0.9, 0.7, 0.8, 0.9, 1.0), strict=True))
        assert findings_of("EVL007", self.trace(), EvaluationLosses(values, HERE))[0].level == "info"

    def test_a_falling_one_is_silent(self):
        values = tuple((step, value) for step, value in zip(range(10, 50, 10), (0.9, 0.7, 0.6, 0.5), strict=True))
        assert not findings_of("EVL007", self.trace(), EvaluationLosses(values, HERE))
