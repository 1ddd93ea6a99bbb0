"""Initial size, updates and ties of parameters, on evidence made by hand."""

import pytest

from doctor.evidence.base import Source
from doctor.evidence.initial_products import InitialProducts, Product
from doctor.evidence.module_tree import ModuleTree, ParameterRecord
from doctor.evidence.optimizer_log import OptimizerLog
from doctor.evidence.registrations import Registrations, Tie
from doctor.evidence.training_trace import Step, TrainingTrace
from doctor.evidence.update_log import GroupRate, ParameterUpdates, UpdateLog
from doctor.testing import findings_of

HERE = Source("net.py", 14)


def products(scale, gain, count=3):
    return InitialProducts(tuple(Product(f"w{i}", 100, scale / 10, 1.0, gain) for i in range(count)))


def trace(losses):
    return TrainingTrace(tuple(Step(i, 0, loss, 0.1, 1.0, 1.0, 1e-3) for i, loss in enumerate(losses)))


class TestLargeInit:
    def test_fires_where_the_parameter_is_made(self):
        (finding,) = findings_of("PAR003", products(10, 9.8), Registrations({"w0": HERE}))
        assert (finding.location.line, finding.treatment.kind) == (14, "rescale-parameters")

    def test_usual_scales_and_rows_of_large_inputs_are_silent(self):
        assert not findings_of("PAR003", products(1.4, 1.4))
        assert not findings_of("PAR003", products(10, 1.0))

    def test_embeddings_tied_to_the_output_are_silent(self):
        tied = ModuleTree(parameters=tuple(ParameterRecord(f"w{i}", (9, 9), module_kind="Embedding") for i in range(3)))
        assert not findings_of("PAR003", products(10, 9.8), tied)

    def test_matrices_of_recurrent_layers_count_by_themselves(self):
        def layer(std, kind="LSTM", trained=True):
            return ModuleTree(
                parameters=(
                    ParameterRecord("rnn.weight_hh_l0", (128, 32), module_kind=kind, std=std, requires_grad=trained),
                )
            )

        (finding,) = findings_of("PAR003", products(1.0, 1.0), layer(1.0))
        assert finding.treatment.factors == (("rnn.weight_hh_l0", pytest.approx(1 / 32**0.5)),)
        assert not findings_of("PAR003", products(1.0, 1.0), layer(0.1))  # the default
        assert not findings_of("PAR003", products(1.0, 1.0), layer(1.0, trained=False))  # a reservoir


class TestLargeEmbeddings:
    def table(self, **changes):
        fields = {"module_kind": "Embedding", "std": 5.0, "reached": 3, "initialised": HERE, **changes}
        return ModuleTree(parameters=(ParameterRecord("users.weight", (40, 16), **fields),))

    def test_rows_drawn_large_fire_where_they_are_drawn(self):
        (finding,) = findings_of("PAR003", self.table())
        assert (finding.location.line, finding.severity, finding.treatment.kind) == (
            14,
            "warning",
            "rescale-parameters",
        )
        assert finding.treatment.factors == (("users.weight", pytest.approx(1 / 20)),)

    @pytest.mark.parametrize("changes", [{"std": 1.0}, {"initialised": None}, {"requires_grad": False}, {"reached": 0}])
    def test_defaults_loaded_frozen_and_unused_tables_are_silent(self, changes):
        assert not findings_of("PAR003", self.table(**changes))


class TestSmallInit:
    def test_fires_while_the_loss_stands_still_only(self):
        assert findings_of("PAR008", products(0.001, 0.001), trace([2.3] * 30))
        assert not findings_of("PAR008", products(0.001, 0.001), trace([2.3 * 0.95**i for i in range(30)]))
        assert not findings_of("PAR008", products(0.16, 0.16), trace([2.3] * 30))


class TestNaNParameters:
    def test_a_nan_before_the_first_step_fires_and_numbers_do_not(self):
        broken = ModuleTree(parameters=(ParameterRecord("scale", (3,), finite=False, initialised=HERE),))
        assert findings_of("PAR004", broken)[0].location.line == 14
        assert not findings_of("PAR004", ModuleTree(parameters=(ParameterRecord("scale", (3,)),)))


class TestNotUpdating:
    def log(self, **counts):
        return UpdateLog(tuple(ParameterUpdates(f"w{i}", 8, 8, **counts) for i in range(4)))

    def test_parameters_put_back_after_each_step_fire_on_the_load(self):
        (finding,) = findings_of("PAR005", self.log(moved=8, restored=7), Registrations(loads=(HERE,)))
        assert finding.location.line == 14

    def test_parameters_that_move_and_some_that_go_back_once_are_silent(self):
        assert not findings_of("PAR005", self.log(moved=8))
        assert not findings_of("PAR005", self.log(moved=8, restored=2))

    def test_updates_lost_in_rounding_fire(self):
        assert findings_of("PAR005", self.log(still=8), OptimizerLog())

    def test_a_group_at_rate_zero_goes_on_trial_unless_all_are(self):
        idle, busy = (GroupRate(0, i, rate, 20, ("w",), 10, 3) for i, rate in enumerate((0.0, 0.1)))
        (finding,) = findings_of("PAR005", UpdateLog(groups=(idle, busy)))
        assert finding.treatment.kind == "group-rate"
        assert not findings_of("PAR005", UpdateLog(groups=(idle,)))


class TestTying:
    def test_a_tie_that_broke_is_told_and_tied_embeddings_are_not(self):
        broken = Registrations(ties=(Tie(("emb.weight", "out.weight"), ("Embedding", "Linear"), HERE, holds=False),))
        assert findings_of("PAR007", broken)[0].level == "info"
        assert not findings_of("PAR007", Registrations(ties=(Tie(("e", "o"), ("Embedding", "Linear"), HERE),)))
