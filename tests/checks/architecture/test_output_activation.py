import torch
import torch.nn.functional as F
from torch import nn

from doctor.testing import findings_of

X = torch.randn(32, 5)


def regression(taped, function, target, written=False):
    layer = nn.Linear(5, 1)

    def compute():
        prediction = function(layer(X))
        return (prediction - target).pow(2).mean() if written else F.mse_loss(prediction, target)

    return findings_of("ARC006", taped(compute, layer=layer).tape)


def test_relu_before_standardised_targets_is_found(taped):
    (finding,) = regression(taped, torch.relu, torch.randn(32, 1))
    assert finding.name == "wrong-output-activation"
    assert finding.treatment.function == "relu"


def test_sigmoid_before_large_targets_is_found_in_a_hand_written_loss(taped):
    (finding,) = regression(taped, torch.sigmoid, 10 * torch.rand(32, 1), written=True)
    assert finding.treatment.function == "sigmoid"


def test_relu_for_counts_and_sigmoid_for_shares_are_silent(taped):
    assert not regression(taped, torch.relu, torch.rand(32, 1))
    assert not regression(taped, torch.sigmoid, torch.rand(32, 1))
    assert not regression(taped, torch.tanh, 2 * torch.rand(32, 1) - 1, written=True)


def test_a_margin_is_no_prediction(taped):
    layer = nn.Linear(5, 4)
    run = taped(lambda: torch.relu(1.0 - layer(X).sum(1)).mean(), layer=layer)
    assert not findings_of("ARC006", run.tape)


def classification(taped, function, logits=3):
    layer, labels = nn.Linear(5, logits), torch.arange(32) % 3

    def compute():
        return F.cross_entropy(function(layer(X)), labels)

    return findings_of("ARC006", taped(compute, layer=layer).tape)


def test_relu_on_logits_is_found(taped):
    assert classification(taped, torch.relu)


def test_relu_on_logits_of_which_rows_are_chosen_is_found(taped):
    chosen = torch.arange(32) % 2 == 0
    layer, labels = nn.Linear(5, 3), (torch.arange(32) % 3)[chosen]
    run = taped(lambda: F.cross_entropy(torch.relu(layer(X))[chosen], labels), layer=layer)
    assert findings_of("ARC006", run.tape)


def test_capped_logits_and_pooled_activations_are_silent(taped):
    assert not classification(taped, lambda x: 30 * torch.tanh(x / 30))
    assert not classification(taped, lambda x: torch.relu(x.unsqueeze(-1)).mean(-1))
    assert not classification(taped, lambda x: x)


def test_softmax_over_one_output_is_found(taped):
    (finding,) = regression(taped, lambda x: x.softmax(1), torch.rand(32, 1))
    assert "always 1" in finding.message


def probabilities(taped, function):
    layer, labels = nn.Linear(5, 1), (torch.arange(32) % 2).float()[:, None]
    run = taped(lambda: F.binary_cross_entropy(function(layer(X)), labels), layer=layer)
    return findings_of("ARC006", run.tape)


def test_probabilities_cut_out_of_unbounded_numbers_are_found(taped):
    assert probabilities(taped, lambda x: torch.relu(x).clamp(max=1))
    assert probabilities(taped, lambda x: x.clamp(0, 1))
    assert not probabilities(taped, lambda x: torch.sigmoid(x).clamp(1e-6, 1 - 1e-6))
