"""Missing values, preprocessing, tokens."""

import ast

from doctor.checks.data.constant_inputs import ConstantInputLimits, constant_inputs

from doctor.evidence.base import Source
from doctor.evidence.data_lines import DataLine, DataLines
from doctor.evidence.input_moments import InputMoments, InputStatistics, Moments, NonFiniteInput, Sentinel
from doctor.evidence.program_run import Crash, ProgramRun
from doctor.evidence.target_log import TargetLog, TargetRecord
from doctor.evidence.token_log import TokenLog, TokenRecord
from doctor.findings import Severity
from doctor.observe import origins
from doctor.testing import findings_of

HERE = Source("train.py", 7, "main")


class TestMissingValues:
    def test_nan_that_reaches_the_output_fires(self):
        bad = NonFiniteInput(3, 350, (2,), 7, 5, 0, source=HERE)
        (finding,) = findings_of("DAT001", InputStatistics(non_finite=(bad,)))
        assert (finding.severity, finding.location.line) == ("error", 7)

    def test_a_placeholder_far_from_the_others_is_put_on_trial(self):
        far = Sentinel(1, -999.0, 0.05, 40.0, 0.0, 90.0, source=HERE)
        (finding,) = findings_of("DAT001", InputStatistics(sentinels=(far,)))
        assert finding.treatment.values == (-999.0,)
        assert finding.severity == "warning"

    def test_a_capped_column_and_a_rare_value_are_silent(self):
        assert not findings_of("DAT001", InputStatistics(sentinels=(Sentinel(1, 200.0, 0.05, 40.0, 0.0, 90.0),)))
        assert not findings_of("DAT001", InputStatistics(sentinels=(Sentinel(1, -999.0, 0.006, 40.0, 0.0, 90.0),)))

    def test_nan_targets_fire_unless_the_loss_is_masked(self):
        assert findings_of("DAT001", TargetLog((TargetRecord("mse_loss", non_finite=4, elements=50),)))
        assert not findings_of("DAT001", TargetLog((TargetRecord("mse_loss", non_finite=4, reduction="none"),)))


def moments(mean, std, samples=400, low=-2.0, high=2.0, between=0.2):
    count = len(mean)
    return Moments(samples, tuple(mean), tuple(std), (between,) * count, (low,) * count, (high,) * count, source=HERE)


def pair(training, evaluation=None, dims=4):
    return InputStatistics((InputMoments(0, dims, training, evaluation),))


class TestPreprocessing:
    def test_raw_pixels_in_evaluation_are_an_error(self):
        raw = moments((127.0,) * 3, (64.0,) * 3, low=0.0, high=255.0)
        (finding,) = findings_of("DAT016", pair(moments((0.0,) * 3, (1.0,) * 3), raw))
        assert finding.severity == "error"

    def test_sampling_noise_and_one_drifting_feature_are_silent(self):
        assert not findings_of("DAT016", pair(moments((0.0, 0.0), (1.0, 1.0)), moments((0.3, -0.2), (1.2, 0.8)), 2))
        drift = moments((9.0, 0.1, 0.0, 0.1), (1.0,) * 4)
        assert not findings_of("DAT016", pair(moments((0.0,) * 4, (1.0,) * 4), drift, 2))

    def test_few_samples_are_silent(self):
        assert not findings_of("DAT016", pair(moments((0.0,), (1.0,)), moments((99.0,), (50.0,), samples=4), 2))

    def test_a_test_set_standardised_by_itself_fires(self):
        alone = moments((0.0,) * 5, (1.0,) * 5, samples=150)
        assert findings_of("DAT016", pair(moments((0.01,) * 5, (0.99,) * 5), alone, 2))

    def test_standardised_images_that_are_raw_in_evaluation_fire(self):
        standard, raw = moments((0.0,), (1.02,), low=-1.5, high=2.5), moments((4.8,), (6.0,), low=0.0, high=16.0)
        assert findings_of("DAT016", pair(standard, raw))
        noisy = moments((0.4,), (0.9,), low=-1.5, high=2.5)  # noise that only training adds to values from 0 on
        assert not findings_of("DAT016", pair(noisy, moments((0.4,), (0.3,), low=0.0, high=1.0)))
        assert not findings_of("DAT016", pair(standard, moments((0.6,), (0.5,), low=0.0, high=1.9)))

    def test_features_that_lose_their_sign_in_evaluation_fire(self):
        standardised = moments((0.1, -0.1, 0.0), (1.0,) * 3, low=-2.0, high=2.5)
        (finding,) = findings_of(
            "DAT016", pair(standardised, moments((0.4, 0.5, 0.5), (0.6,) * 3, low=0.0, high=1.0), 2)
        )
        assert "3 of 3 features" in finding.message

    def test_features_without_a_sign_and_a_narrow_evaluation_are_silent(self):
        shares = moments((0.4, 0.5, 0.5), (0.3,) * 3, low=0.0, high=1.0)
        assert not findings_of("DAT016", pair(shares, shares, 2))
        few = moments((0.4, 0.3, 0.2), (0.7,) * 3, low=0.03, high=0.9)  # rows that happen to lie on one side
        assert not findings_of("DAT016", pair(moments((0.1, -0.1, 0.0), (1.0,) * 3, low=-2.0, high=2.5), few, 2))

    def test_reversed_channels_fire(self):
        one, other = moments((0.8, 0.5, 0.1), (1.0,) * 3), moments((0.11, 0.51, 0.79), (1.0,) * 3)
        assert findings_of("DAT024", pair(one, other))

    def test_equal_and_nearly_equal_channels_are_silent(self):
        assert not findings_of(
            "DAT024", pair(moments((0.5, 0.5, 0.5), (1.0,) * 3), moments((0.51, 0.5, 0.5), (1.0,) * 3))
        )
        assert not findings_of(
            "DAT024", pair(moments((0.8, 0.5, 0.1), (1.0,) * 3), moments((0.8, 0.5, 0.1), (1.0,) * 3))
        )

    def test_images_divided_twice_and_then_normalised_fire(self):
        assert findings_of("DAT023", pair(moments((-2.1,) * 3, (0.004,) * 3, low=-2.12, high=-2.1)))

    def test_imagenet_normalisation_and_images_from_0_to_1_are_silent(self):
        assert not findings_of("DAT023", pair(moments((-0.1, 0.2, 0.4), (1.1, 1.0, 1.2))))
        assert not findings_of("DAT023", pair(moments((0.13,), (0.12,), low=0.0, high=1.0)))


class TestTokens:
    def record(self, **changes):
        fields = {
            "rows": 100, "low": 0, "high": 99, "used": 90, "tokens": 5000, "sequences": 200, "length": 20,
            "most": ((5, 0.06), (9, 0.05)), "source": HERE,
        }  # fmt: skip
        return TokenLog((TokenRecord(**{**fields, **changes}),))

    def test_an_id_beyond_the_rows_is_told_at_the_embedding(self):
        run = ProgramRun("crashed", crash=Crash("IndexError", "index out of range in self", HERE))
        made = Source("net.py", 3)
        (finding,) = findings_of("DAT019", run, self.record(high=100, created=made))
        assert finding.location.path == "net.py"
        assert "num_embeddings=101" in finding.remedy

    def test_mostly_unknown_tokens_fire(self):
        assert findings_of("DAT019", self.record(most=((1, 0.8), (9, 0.05))))

    def test_padding_and_small_alphabets_are_silent(self):
        assert not findings_of("DAT019", self.record(most=((0, 0.8), (9, 0.05)), fill=((0, 180),)))
        assert not findings_of("DAT019", self.record(rows=6, used=5, most=((1, 0.8), (9, 0.05))))
        assert not findings_of("DAT019", self.record())

    def test_a_doubled_first_token_fires(self):
        assert findings_of("DAT019", self.record(starts=((2, 199),), doubled=199))

    def test_another_filling_id_than_padding_idx_fires(self):
        assert findings_of("DAT026", self.record(padding_idx=0, fill=((1, 150),)))

    def test_a_padding_id_that_is_a_word_fires(self):
        assert findings_of("DAT026", self.record(padding_idx=0, interior=400, interior_of=4000))

    def test_padding_as_meant_and_none_at_all_are_silent(self):
        assert not findings_of("DAT026", self.record(padding_idx=0, fill=((0, 150),), interior_of=4000))
        assert not findings_of("DAT026", self.record(fill=((1, 150),)))


def test_raw_columns_after_training_on_standardised_ones_are_a_mismatch():
    raw = moments((1.2, 1.5, 1.4, 9.0), (1.0, 1.0, 1.0, 1.0))
    (finding,) = findings_of("DAT016", pair(moments((0.0,) * 4, (1.0,) * 4), raw, 2))
    assert finding.measured["shift"].value == 1.45


def test_one_column_that_drifts_far_is_no_mismatch_of_all():
    drift = moments((0.1, 0.2, 0.1, 9.0), (1.0, 1.0, 1.0, 1.0))
    assert not findings_of("DAT016", pair(moments((0.0,) * 4, (1.0,) * 4), drift, 2))


def constant(statistics):
    return list(constant_inputs(statistics, None, None, ConstantInputLimits()))


class TestConstantInputs:
    def seen(self, low=0.5, high=0.5, **changes):
        fields = {"samples": 400, "batches": 8, "source": HERE, **changes}
        return Moments(mean=(0.5, 0.5), std=(0.0, 0.0), between=(0.0, 0.0), low=(low, 0.5), high=(high, 0.5), **fields)

    def test_the_same_values_for_every_sample_fire(self):
        (finding,) = constant(pair(self.seen()))
        assert (finding.severity, finding.location.line) == (Severity.ERROR, HERE.line)

    def test_one_column_that_varies_is_enough(self):
        assert not constant(pair(self.seen(low=0.0)))

    def test_a_constant_beside_another_input_or_trained_in_one_batch_is_silent(self):
        assert not constant(pair(self.seen(others=1)))
        assert not constant(pair(self.seen(batches=1)))


class TestDataLines:
    def lines(self, text):
        found = [
            DataLine(
                f["kind"],
                f["call"],
                Source(*f["line"]),
                tuple(f["names"]),
                tuple(f["arguments"]),
                tuple(f.get("computed", ())),
            )
            for f in origins._of(ast.parse(text), "train.py")
        ]
        return DataLines(tuple(found))

    def test_values_changed_in_the_call_of_the_data_set_lie_there(self):
        lines = self.lines(
            "x = torch.tensor(d.data)\ny = torch.tensor(d.target)\nsets = TensorDataset(255 * x, torch.where(bad, y[order], y))"
        )
        assert (lines.inputs().line, lines.targets().line) == (3, 3)

    def test_types_shapes_and_slices_change_no_value(self):
        lines = self.lines(
            "x = torch.tensor(d.data)\ny = torch.tensor(d.target)\nsets = TensorDataset(x[:90].float(), y[:90].view(-1))"
        )
        assert (lines.inputs().line, lines.targets().line) == (1, 2)

    def test_evaluation_inputs_changed_in_their_data_set_lie_there(self):
        lines = self.lines("train = TensorDataset(x_train, y_train)\nheld = TensorDataset(16 * x_test + 3, y_test)")
        assert lines.evaluation_inputs().line == 2
