"""Labels, rare classes, the scale of targets, and pairs that do not belong together."""

from doctor.evidence.base import Source
from doctor.evidence.batch_log import BatchLog, LoaderRecord, TargetStats
from doctor.evidence.data_lines import DataLine, DataLines
from doctor.evidence.pairing import Pairing
from doctor.evidence.program_run import Crash, ProgramRun
from doctor.evidence.reference_run import ReferenceRun
from doctor.evidence.target_log import TargetLog, TargetRecord
from doctor.evidence.token_alignment import AlignedPlace, TokenAlignment
from doctor.testing import findings_of

HERE = Source("train.py", 7, "main")
LABELS = DataLines((DataLine("convert", "tensor", Source("train.py", 2), ("y",)),))


def log(function="cross_entropy", **fields):
    return TargetLog((TargetRecord(function, source=HERE, **fields),))


def crash(message):
    return ProgramRun("crashed", crash=Crash("IndexError", message, HERE))


class TestLabelEncoding:
    def test_ids_from_one_are_told_where_they_are_made(self):
        targets = log(outputs=5, minimum=1, maximum=5)
        (finding,) = findings_of("DAT006", crash("Target 5 is out of bounds."), targets, LABELS)
        assert (finding.location.line, finding.remedy) == (2, "number the classes from 0: y = y - 1")

    def test_too_few_outputs_are_told_at_the_loss(self):
        targets = log(outputs=9, minimum=0, maximum=9)
        (finding,) = findings_of("DAT006", crash("Target 9 is out of bounds."), targets, LABELS)
        assert finding.location.line == 7
        assert "10 outputs" in finding.remedy

    def test_the_crash_is_not_told_twice(self):
        assert not findings_of("ARC002", crash("Target 9 is out of bounds."))

    def test_binary_targets_of_minus_one_fire(self):
        targets = log("binary_cross_entropy_with_logits", minimum=-1, maximum=1, outside=50, elements=100)
        assert findings_of("DAT006", targets)

    def test_soft_labels_and_ignored_ids_are_silent(self):
        assert not findings_of(
            "DAT006", log("binary_cross_entropy_with_logits", minimum=0.05, maximum=0.95, elements=9)
        )
        assert not findings_of("DAT006", log(outputs=5, minimum=-100, maximum=4, classes=(40,) * 5))

    def test_a_padding_class_0_is_silent(self):
        assert not findings_of("DAT006", log(outputs=4, ignore_index=0, classes=(0, 40, 40, 40)))


class TestImbalance:
    def place(self, **changes):
        fields = {
            "classes": (970, 30), "predicted": (500, 0), "hits": (480, 0), "late_classes": (480, 20), "outputs": 2,
        }  # fmt: skip
        return log(**{**fields, **changes})

    def test_a_rare_class_that_is_never_found_fires(self):
        (finding,) = findings_of("DAT007", self.place())
        assert finding.treatment.control == 0.5

    def test_a_rare_class_that_is_found_is_silent(self):
        assert not findings_of("DAT007", self.place(hits=(475, 12)))

    def test_a_model_that_has_not_begun_to_learn_is_silent(self):
        early = {
            "classes": (960, 20, 600),
            "hits": (480, 0, 0),
            "late_classes": (480, 12, 300),
            "predicted": (792, 0, 0),
        }
        assert not findings_of("DAT007", self.place(outputs=3, **early))

    def test_the_tokens_of_a_text_are_no_classes(self):
        sequence = TokenAlignment((AlignedPlace(HERE, (1,), (480,), 500, 2),))
        assert not findings_of("DAT007", self.place(), sequence)

    def test_weights_and_even_classes_are_silent(self):
        assert not findings_of("DAT007", self.place(weighted=True))
        assert not findings_of("DAT007", self.place(classes=(550, 450)))


class TestTargetScale:
    def place(self, **changes):
        fields = {"mean": 2e5, "std": 8e4, "first_output": (0.1, 0.2), "relative_error": 6.0, "elements": 500}
        return log("mse_loss", **{**fields, **changes})

    def test_prices_against_small_outputs_fire(self):
        assert findings_of("DAT009", self.place())[0].treatment.std == 8e4

    def test_raw_targets_that_are_fitted_are_silent(self):
        assert not findings_of("DAT009", self.place(relative_error=0.2))

    def test_an_output_of_the_same_scale_and_small_targets_are_silent(self):
        assert not findings_of("DAT009", self.place(first_output=(1.9e5, 3e4)))
        assert not findings_of("DAT009", self.place(mean=2.0, std=1.0))


class TestMisaligned:
    nothing = ReferenceRun("perceptron", 800, 2.31, 2.31, 2.30, 0.01)
    lines = DataLines((DataLine("permute", "permutation", Source("train.py", 5)),))

    def pairs(self, **changes):
        fields = {
            "samples": 800, "classes": 10, "structure": 3.0, "explained": -0.02, "fit_errors": 0.3, "near_errors": -0.4,
        }  # fmt: skip
        return Pairing(**{**fields, **changes})

    def test_structured_inputs_that_tell_nothing_fire_at_the_permutation(self):
        (finding,) = findings_of("DAT012", self.pairs(), self.nothing, self.lines)
        assert finding.location.line == 5

    def test_targets_that_fit_three_samples_later_fire(self):
        assert findings_of("DAT012", self.pairs(samples=200, best_shift=3, shifted=0.8))

    def test_texts_whose_words_tell_nothing_fire_and_even_alphabets_do_not(self):
        words = ReferenceRun("pooled embeddings", 800, 1.39, 1.40, 1.385, 0.01)
        assert findings_of("DAT012", self.pairs(classes=4, structure=7.0, ragged=True), words)
        assert not findings_of("DAT012", self.pairs(classes=4, structure=2.0, ragged=True), words)
        assert not findings_of("DAT012", self.pairs(classes=2, structure=7.0), words)  # the fields of a table

    def test_windows_fire_where_what_follows_is_smooth(self):
        pooled = ReferenceRun("pooled sequence", 800, 1.01, 1.01, 1.0, 0.01)
        assert findings_of("DAT012", self.pairs(classes=0, smooth=0.95), pooled)
        assert not findings_of("DAT012", self.pairs(classes=0), pooled)  # returns, noise

    def test_random_inputs_few_samples_and_any_information_are_silent(self):
        assert not findings_of("DAT012", self.pairs(structure=1.0), self.nothing)
        assert not findings_of("DAT012", self.pairs(samples=150), self.nothing)
        assert not findings_of("DAT012", self.pairs(near_errors=6.0), self.nothing)
        assert not findings_of("DAT012", self.pairs())

    def test_a_program_that_learns_is_silent(self):
        learnt = log("mse_loss", relative_error=0.3)
        assert not findings_of("DAT012", self.pairs(classes=0), self.nothing, learnt)


class TestUnshuffled:
    def batches(self, labels, loader=None):
        return BatchLog(targets=(TargetStats((8,), "int64", labels),), loaders=(loader,) if loader else (), source=HERE)

    def test_sorted_slices_fire_at_the_loop_that_cuts_them(self):
        lines = DataLines((DataLine("stride", "range", Source("train.py", 6)),))
        (finding,) = findings_of("DAT014", self.batches(tuple((i,) * 8 for i in range(8))), lines)
        assert finding.location.line == 6

    def test_sorted_numbers_fire(self):
        assert findings_of("DAT014", self.batches(()), log("mse_loss", within=0.05, batches=30, turns=0.02))

    def test_real_and_generated_batches_in_turn_are_silent(self):
        assert not findings_of("DAT014", self.batches(((1,) * 8, (0,) * 8) * 6))

    def test_a_sampler_of_the_users_own_is_silent(self):
        loader = LoaderRecord(0, "D", 64, 8, None, source=HERE, used_in_training=True)
        assert not findings_of("DAT014", self.batches(tuple((i,) * 8 for i in range(8)), loader))
