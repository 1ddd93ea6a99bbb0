"""Rules on the summands of the loss: tapes made by hand, a few operations long."""

from doctor.evidence.base import Source
from doctor.evidence.loss_terms import LossTerms, Term, UnusedTerm, terms_of
from doctor.evidence.metamorphic import ExperimentedCall, InputField, Metamorphic
from doctor.evidence.op_tape import Op, Tape, TensorNote
from doctor.evidence.optimizer_log import OptimizerLog, OptimizerRecord
from doctor.evidence.training_trace import Step, TrainingTrace
from doctor.testing import findings_of


def note(number, *shape, grad=True, parameter=None):
    return TensorNote(number, shape, "float32", grad, parameter=parameter)


class Program:
    """A tape that is written as a program is: every operation on a line of its own."""

    def __init__(self):
        self.ops = []

    def call(self, name, *inputs, shape=(), grad=True, **arguments):
        number = len(self.ops) + 100
        out = note(number, *shape, grad=grad)
        line = Source("train.py", len(self.ops) + 1)
        self.ops.append(Op(len(self.ops), name, inputs, (out,), source=line, arguments=arguments))
        return out

    def terms(self, loss):
        return terms_of(Tape(0, tuple(self.ops), loss=loss.id))


def classifier():
    program = Program()
    logits = program.call("addmm", note(1, 10, parameter="w"), note(2, 8, 4, grad=False), shape=(8, 10))
    return program, logits, note(3, 8, grad=False)


def trace(losses, optimizers=(0,)):
    steps = [Step(i, o, loss, 0.1, 1.0, 10.0, 1e-3) for i, loss in enumerate(losses) for o in optimizers]
    return TrainingTrace(tuple(steps), Source("train.py", 1))


FALLING = [-2.0 * 1.3**i for i in range(20)]


class TestLossSign:
    def test_a_negated_cross_entropy_fires_on_the_line_of_the_minus(self):
        program, logits, y = classifier()
        loss = program.call("neg", program.call("nll_loss_forward", program.call("_log_softmax", logits), y))
        (finding,) = findings_of("LOS011", program.terms(loss), trace(FALLING))
        assert (finding.name, finding.location.line) == ("loss-sign", 4)

    def test_a_cross_entropy_is_silent_and_under_maximize_it_fires(self):
        program, logits, y = classifier()
        loss = program.call("nll_loss_forward", program.call("_log_softmax", logits), y)
        assert not findings_of("LOS011", program.terms(loss), trace([2.0] * 20))
        log = OptimizerLog((OptimizerRecord(0, "SGD", ("w",), {"maximize": True}),))
        assert findings_of("LOS011", program.terms(loss), trace(FALLING), log)

    def test_an_adversarial_term_beside_a_task_loss_is_silent(self):
        program, logits, y = classifier()
        task = program.call("nll_loss_forward", program.call("_log_softmax", logits), y)
        other = program.call("mse_loss", logits, note(4, 8, 10, grad=False))
        loss = program.call("sub", task, other)
        assert not findings_of("LOS011", program.terms(loss), trace(FALLING))

    def test_a_minimised_log_likelihood_fires_and_a_policy_gradient_is_silent(self):
        program, logits, y = classifier()
        picked = program.call("gather", program.call("_log_softmax", logits, shape=(8, 10)), y, shape=(8,))
        assert findings_of("LOS011", program.terms(program.call("mean", picked)), trace(FALLING))
        pairs = program.call("diagonal", program.call("_log_softmax", logits, shape=(8, 10)), shape=(8,))
        assert findings_of("LOS011", program.terms(program.call("mean", pairs)), trace(FALLING))
        weighted = program.call("mul", picked, note(9, 8, grad=False), shape=(8,))
        assert not findings_of("LOS011", program.terms(program.call("mean", weighted)), trace(FALLING))

    def test_a_subtracted_square_fires_only_when_the_loss_has_no_bottom(self):
        program, logits, _ = classifier()
        divergence = program.call("sum", program.call("pow", logits, shape=(8, 10), exponent=2))
        loss = program.call("sub", program.call("mean", program.call("abs", logits, shape=(8, 10))), divergence)
        assert findings_of("LOS011", program.terms(loss), trace(FALLING))
        assert not findings_of("LOS011", program.terms(loss), trace([2.0, 1.9, 1.8] * 7))

    def test_two_optimizers_are_silent(self):
        program, logits, y = classifier()
        loss = program.call("neg", program.call("nll_loss_forward", program.call("_log_softmax", logits), y))
        assert not findings_of("LOS011", program.terms(loss), trace(FALLING, (0, 1)))


class TestDuplicateTerm:
    def test_the_same_tensor_twice_fires(self):
        program, logits, y = classifier()
        one = program.call("nll_loss_forward", program.call("_log_softmax", logits), y)
        other = program.call("mse_loss", logits, note(4, 8, 10, grad=False))
        loss = program.call("add", program.call("add", one, other), other)
        (finding,) = findings_of("LOS012", program.terms(loss))
        assert (finding.name, finding.measured["times"].value) == ("duplicate-loss-term", 2)

    def test_the_same_criterion_computed_twice_fires(self):
        program, logits, y = classifier()
        one = program.call("nll_loss_forward", program.call("_log_softmax", logits), y)
        two = program.call("nll_loss_forward", program.call("_log_softmax", logits), y)
        assert findings_of("LOS012", program.terms(program.call("add", one, two)))

    def test_two_targets_are_silent(self):
        program, logits, y = classifier()
        one = program.call("nll_loss_forward", program.call("_log_softmax", logits), y)
        two = program.call("nll_loss_forward", program.call("_log_softmax", logits), note(5, 8, grad=False))
        assert not findings_of("LOS012", program.terms(program.call("add", one, two)))

    def test_two_forward_passes_with_dropout_are_silent(self):
        program, logits, y = classifier()
        views = [program.call("native_dropout", logits, shape=(8, 10)) for _ in range(2)]
        one, two = (program.call("nll_loss_forward", program.call("_log_softmax", view), y) for view in views)
        assert not findings_of("LOS012", program.terms(program.call("add", one, two)))


class TestMissingTerm:
    def encoder(self, program):
        hidden = note(2, 8, 4, grad=False)
        mu = program.call("addmm", note(1, 10, parameter="mu"), hidden, shape=(8, 3))
        log_var = program.call("addmm", note(3, 10, parameter="log_var"), hidden, shape=(8, 3))
        std = program.call("exp", program.call("mul", log_var, shape=(8, 3), other=0.5), shape=(8, 3))
        noise = program.call("randn_like", std, shape=(8, 3), grad=False)
        noise = TensorNote(noise.id, noise.shape, noise.dtype, False)
        z = program.call("add", mu, program.call("mul", noise, std, shape=(8, 3)), shape=(8, 3))
        return mu, log_var, z

    def test_a_sampled_code_without_a_divergence_fires_on_the_loss_line(self):
        program = Program()
        _, _, z = self.encoder(program)
        rebuilt = program.call("addmm", note(6, 4, parameter="decoder"), z, shape=(8, 4))
        loss = program.call("mse_loss", rebuilt, note(2, 8, 4, grad=False))
        (finding,) = findings_of("LOS013", program.terms(loss))
        assert (finding.name, finding.location.line) == ("missing-loss-term", len(program.ops))

    def test_a_divergence_in_the_loss_is_silent(self):
        program = Program()
        _, log_var, z = self.encoder(program)
        rebuilt = program.call("addmm", note(6, 4, parameter="decoder"), z, shape=(8, 4))
        error = program.call("mse_loss", rebuilt, note(2, 8, 4, grad=False))
        divergence = program.call("mean", program.call("exp", log_var, shape=(8, 3)))
        assert not findings_of("LOS013", program.terms(program.call("add", error, divergence)))

    def test_noise_on_the_output_itself_is_silent(self):
        program = Program()
        _, _, z = self.encoder(program)
        loss = program.call("mse_loss", z, note(4, 8, 3, grad=False))
        assert not findings_of("LOS013", program.terms(loss))

    def test_a_head_whose_term_is_left_out_fires_and_a_logged_metric_does_not(self):
        program, logits, y = classifier()
        loss = program.call("nll_loss_forward", program.call("_log_softmax", logits), y)
        program.call("mean", program.call("abs", logits, shape=(8, 10)))
        assert not findings_of("LOS013", program.terms(loss))
        head = program.call("addmm", note(8, 1, parameter="size"), note(2, 8, 4, grad=False), shape=(8, 1))
        program.call("mse_loss", head, note(9, 8, 1, grad=False))
        assert findings_of("LOS013", program.terms(loss))


class TestCollapsedPosterior:
    """Variational autoencoders: the two terms over the same elements, and not."""

    def terms(self, reduction, beta=1.0, batch=8, pixels=784):
        """The loss of a variational autoencoder whose divergence is summed over the latent, and averaged over the batch."""
        program = Program()
        logits = program.call("addmm", note(1, pixels, parameter="w"), note(2, batch, 4), shape=(batch, pixels))
        x = note(3, batch, pixels, grad=False)
        chosen = {"reduction": 2} if reduction == "sum" else {}
        reconstruction = program.call("binary_cross_entropy_with_logits", logits, x, **chosen)
        if reduction == "sum":
            reconstruction = program.call("div", reconstruction, other=float(batch))
        mean, spread = note(4, batch, 16), note(5, batch, 16)
        parts = program.call("sub", program.call("add", spread, shape=(batch, 16), other=1.0),
                             program.call("pow", mean, shape=(batch, 16), exponent=2), shape=(batch, 16))  # fmt: skip
        parts = program.call("sub", parts, program.call("exp", spread, shape=(batch, 16)), shape=(batch, 16))
        divergence = program.call("mul", program.call("sum", parts), other=-0.5 * beta / batch)
        return program.terms(program.call("add", reconstruction, divergence))

    def moved(self, change):
        fields = (InputField("x", (8, 784), "float32", used=True, change=change),)
        return Metamorphic((ExperimentedCall(0, "", "Vae", fields=fields),))

    def test_a_mean_beside_a_sum_fires_on_the_reconstruction(self):
        (finding,) = findings_of("LOS010", self.terms("mean"), self.moved(0.01))
        assert finding.location.line == 2
        assert finding.measured["weight"].value > 100

    def test_both_summed_are_silent_even_when_the_code_says_nothing(self):
        assert not findings_of("LOS010", self.terms("sum"), self.moved(0.01))

    def test_a_small_weight_that_makes_up_for_it_is_silent(self):
        assert not findings_of("LOS010", self.terms("mean", beta=1e-3), self.moved(0.01))

    def test_outputs_that_follow_the_inputs_are_silent(self):
        assert not findings_of("LOS010", self.terms("mean"), self.moved(0.6))


class TestDrownedTerm:
    def loss(self, factor, reduction="mean"):
        box = Term("smooth L1 error", Source("train.py", 2), 1, factor, reduction, 200)
        kind = Term("cross-entropy", Source("train.py", 3), 1, 1.0, "mean", 50)
        return findings_of("LOS014", LossTerms((box, kind), Source("train.py", 4)))

    def test_a_criterion_that_counts_next_to_nothing_fires_where_terms_are_summed(self):
        (finding,) = self.loss(1e-4)
        assert (finding.name, finding.location.line, finding.level) == ("loss-weighting", 4, "warning")

    def test_auxiliary_weights_and_sums_that_are_scaled_down_are_silent(self):
        assert not self.loss(0.01)
        assert not self.loss(1e-4, reduction="sum")


class TestOneNegativeCriterion:
    both = LossTerms(
        (Term("squared error", Source("train.py", 2), 1), Term("cross-entropy", Source("train.py", 3), -1)),
        Source("train.py", 4),
    )

    def test_a_criterion_that_is_maximised_without_end_beside_another_fires(self):
        (finding,) = findings_of("LOS011", self.both, trace([1.0 - 2.0 * i for i in range(20)]))
        assert "cross-entropy enters the loss with a negative sign" in finding.message

    def test_an_adversarial_term_that_stays_bounded_is_silent(self):
        assert not findings_of("LOS011", self.both, trace([1.0 - 0.01 * i for i in range(20)]))


def test_a_term_that_only_an_attack_reaches_is_no_missing_one():
    def unused(*lost):
        return LossTerms(
            (Term("cross-entropy", Source("train.py", 4)),),
            Source("train.py", 4),
            (UnusedTerm("nll_loss_forward", Source("train.py", 2), lost),),
        )

    assert findings_of("LOS013", unused("head.weight"))
    assert not findings_of("LOS013", unused("<tensor 50x64 #4>"))
