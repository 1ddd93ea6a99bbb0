"""Shift and padding of language models' targets: the fault fires, what looks like it does not."""

from doctor.evidence.base import Source
from doctor.evidence.data_lines import DataLine, DataLines
from doctor.evidence.loss_arguments import LossArguments, LossPlace
from doctor.evidence.token_alignment import AlignedPlace, PaddingFacts, TokenAlignment
from doctor.testing import findings_of

HERE = Source("train.py", 7, "main")
LAGS = (-1, 0, 1, 2, 3)


def aligned(*matches, causal=None, padding=None, **changes):
    return AlignedPlace(HERE, LAGS, matches or (8, 9, 100, 7, 8), 100, 20, causal=causal, padding=padding, **changes)


def padded(**changes):
    facts = {"pad": 0, "target": 0, "positions": 1000, "padded": 400, "constant": 400, "counted": 400}
    return PaddingFacts(**{**facts, "with_gradient": 400, "gradient_share": 0.3, "declared": True, **changes})


class TestLabelShift:
    def test_unshifted_targets_of_a_causal_model_fire(self):
        (finding,) = findings_of("LOS008", TokenAlignment((aligned(8, 100, 9, 8, 7, causal=True),)))
        assert (finding.name, finding.location.line) == ("label-shift", 7)

    def test_unshifted_targets_of_a_model_that_reads_both_ways_are_silent(self):
        assert not findings_of("LOS008", TokenAlignment((aligned(8, 100, 9, 8, 7, causal=False),)))

    def test_targets_two_ahead_fire(self):
        (finding,) = findings_of("LOS008", TokenAlignment((aligned(8, 9, 10, 100, 7, inside=True),)))
        assert "again inside the model" in finding.message

    def test_a_shift_inside_a_library_model_is_told_where_labels_are_made(self):
        lines = DataLines((DataLine("labels", "", Source("train.py", 40)),))
        inside = aligned(8, 9, 10, 100, 7, inside=True)
        assert findings_of("LOS008", TokenAlignment((inside,)), lines)[0].location.line == 40
        outside = aligned(8, 9, 10, 100, 7)
        assert findings_of("LOS008", TokenAlignment((outside,)), lines)[0].location.line == 7

    def test_heads_for_one_and_two_tokens_ahead_are_silent(self):
        places = (aligned(), aligned(8, 9, 10, 100, 7))
        assert not findings_of("LOS008", TokenAlignment(places))

    def test_next_token_targets_and_repetitive_text_are_silent(self):
        assert not findings_of("LOS008", TokenAlignment((aligned(),)))
        assert not findings_of("LOS008", TokenAlignment((aligned(80, 99, 90, 99, 80, causal=True),)))


class TestPadding:
    def levels(self, place):
        return [finding.level for finding in findings_of("LOS007", TokenAlignment((place,)))]

    def test_declared_padding_in_the_loss_is_an_error_on_the_loss_line(self):
        (finding,) = findings_of("LOS007", TokenAlignment((aligned(padding=padded()),)))
        assert (finding.name, finding.location.line, finding.level) == ("padding-not-masked", 7, "error")

    def test_it_is_told_where_the_criterion_is_constructed(self):
        made = Source("train.py", 3, "main")
        arguments = LossArguments((LossPlace("cross_entropy", HERE, input_shape=(80, 10), outputs=(10,), made=made),))
        (finding,) = findings_of("LOS007", TokenAlignment((aligned(padding=padded()),)), arguments)
        assert (finding.location.line, finding.related[0].location.line) == (3, 7)

    def test_padding_inside_a_library_model_is_told_where_labels_are_made(self):
        lines = DataLines((DataLine("labels", "", Source("train.py", 40)),))
        (finding,) = findings_of("LOS007", TokenAlignment((aligned(padding=padded(), inside=True),)), lines)
        assert (finding.location.line, finding.related[0].location.line) == (40, 7)

    def test_texts_that_nothing_but_their_fill_ends_are_told_as_info(self):
        def copied(ended):
            return aligned(padding=padded(declared=False, ended=ended))

        assert self.levels(copied(True)) == ["warning"]
        assert self.levels(copied(False)) == ["info"]

    def test_a_wrong_ignore_index_is_named(self):
        place = aligned(padding=padded(declared=False), ignore_index=3)
        (finding,) = findings_of("LOS007", TokenAlignment((place,)))
        assert "ignore_index is 3" in finding.message

    def test_padding_that_gets_no_gradient_is_silent(self):
        assert not self.levels(aligned(padding=padded(with_gradient=0, gradient_share=0.0)))

    def test_varying_targets_over_the_input_s_tail_are_silent(self):
        assert not self.levels(aligned(padding=padded(constant=120)))

    def test_undeclared_padding_is_a_warning_and_the_fill_of_an_autoencoder_info(self):
        assert self.levels(aligned(padding=padded(declared=False))) == ["warning"]
        assert self.levels(aligned(8, 100, 9, 8, 7, padding=padded(declared=False))) == ["info"]
