import torch
import torch.nn.functional as F
from torch import nn

from doctor.evidence.base import Source
from doctor.evidence.module_tree import ModuleRecord, ModuleTree
from doctor.testing import findings_of

X, Y = torch.randn(6, 9), torch.randint(0, 4, (6,))


def test_a_log_softmax_over_samples_is_found(taped):
    layer = nn.Linear(9, 4)

    def compute():
        scores = layer(X)
        return F.nll_loss(F.log_softmax(scores, dim=0), Y)  # here

    run = taped(compute, layer=layer)
    (finding,) = findings_of("ARC011", run.tape, run.axes)
    assert (finding.name, finding.location.line) == ("wrong-dim", run.here)
    assert (finding.treatment.function, finding.treatment.dim) == ("log_softmax", 1)


def test_a_log_softmax_over_time_is_found_by_where_the_loss_picks(taped):
    layer, y = nn.Linear(9, 4), torch.randint(0, 4, (6, 5))

    def compute():
        scores = F.log_softmax(layer(torch.randn(6, 5, 9)), dim=1)  # here
        return F.nll_loss(scores.reshape(-1, 4), y.reshape(-1))

    run = taped(compute, layer=layer)
    (finding,) = findings_of("ARC011", run.tape, run.axes)
    assert (finding.location.line, finding.treatment.dim) == (run.here, 2)


def dice(dim):
    layer, mask = nn.Conv2d(1, 3, 3, padding=1), torch.randint(0, 3, (6, 8, 8))

    def compute():
        probs = layer(torch.randn(6, 1, 8, 8)).softmax(dim)  # here
        marked = F.one_hot(mask, 3).permute(0, 3, 1, 2).float()
        return 1 - ((probs * marked).sum((0, 2, 3)) / (probs.sum((0, 2, 3)) + marked.sum((0, 2, 3)))).mean()

    return compute, {"layer": layer}


def test_a_softmax_over_columns_is_found_by_where_the_one_hot_target_marks_the_class(taped):
    compute, modules = dice(-1)
    run = taped(compute, **modules)
    (finding,) = findings_of("ARC011", run.tape, run.axes)
    assert (finding.location.line, finding.treatment.dim) == (run.here, 1)


def test_a_softmax_over_the_classes_of_a_dice_loss_is_silent(taped):
    compute, modules = dice(1)
    run = taped(compute, **modules)
    assert not findings_of("ARC011", run.tape, run.axes)


def attention(dim):
    q, k = nn.Linear(9, 8), nn.Linear(9, 8)

    def compute():
        x = torch.randn(6, 5, 9)
        weights = torch.softmax(q(x) @ k(x).transpose(1, 2), dim)
        return F.cross_entropy((weights @ k(x)).mean(1)[:, :4], Y)

    return compute, {"q": q, "k": k}


def test_attention_weights_over_queries_are_found(taped):
    compute, modules = attention(1)
    run = taped(compute, **modules)
    (finding,) = findings_of("ARC011", run.tape, run.axes)
    assert finding.treatment.dim == 2


def test_attention_weights_over_keys_are_silent(taped):
    compute, modules = attention(2)
    run = taped(compute, **modules)
    assert not findings_of("ARC011", run.tape, run.axes)


def test_a_contrastive_loss_both_ways_is_silent(taped):
    a, b = nn.Linear(9, 4), nn.Linear(9, 4)

    def compute():
        logits = F.normalize(a(X), dim=1) @ F.normalize(b(X), dim=1).T
        target = torch.arange(6)
        return F.cross_entropy(logits, target) + F.cross_entropy(logits.T, target)

    run = taped(compute, a=a, b=b)
    assert not findings_of("ARC011", run.tape, run.axes)


def test_slots_that_compete_and_are_normalised_anew_are_silent(taped):
    q, k = nn.Linear(9, 8), nn.Linear(9, 8)

    def compute():
        x, slots = torch.randn(6, 5, 9), torch.randn(6, 3, 9)
        weights = torch.softmax(k(x) @ q(slots).transpose(1, 2), 2)
        weights = weights / weights.sum(1, keepdim=True)
        return F.cross_entropy((weights.transpose(1, 2) @ k(x)).mean(1)[:, :4], Y)

    run = taped(compute, q=q, k=k)
    assert not findings_of("ARC011", run.tape, run.axes)


def recurrent(batch_first):
    rnn, out = nn.LSTM(9, 4, batch_first=batch_first), nn.Linear(4, 4)
    settings = {"batch_first": batch_first, "hidden_size": 4}
    tree = ModuleTree(modules=(ModuleRecord("rnn", "LSTM", settings=settings, created=Source("net.py", 3)),))

    def compute():
        states, _ = rnn(torch.randn(6, 5, 9))
        return F.cross_entropy(out(states[:, -1]), Y)

    return compute, tree, {"rnn": rnn, "out": out}


def test_batches_that_a_recurrent_layer_reads_as_time_are_found(taped):
    compute, tree, modules = recurrent(batch_first=False)
    run = taped(compute, **modules)
    (finding,) = findings_of("ARC022", run.tape, run.axes, tree)
    assert finding.location.line == 3
    assert "wrong-dim" in finding.faults


def test_batch_first_is_silent(taped):
    compute, tree, modules = recurrent(batch_first=True)
    run = taped(compute, **modules)
    assert not findings_of("ARC022", run.tape, run.axes, tree)


def test_a_target_at_every_position_leaves_open_which_axis_counts_the_samples(taped):
    rnn, out = nn.GRU(9, 4), nn.Linear(4, 4)
    settings = {"batch_first": False, "hidden_size": 4}
    tree = ModuleTree(modules=(ModuleRecord("rnn", "GRU", settings=settings, created=Source("net.py", 3)),))
    x, y = torch.randn(6, 5, 9), torch.randint(0, 4, (6, 5))  # (time, batch, features)

    def compute():
        return F.cross_entropy(out(rnn(x)[0]).flatten(0, 1), y.flatten())

    run = taped(compute, rnn=rnn, out=out)
    assert not findings_of("ARC022", run.tape, run.axes, tree)


def test_images_against_texts_both_ways_are_silent(taped):
    images, texts = nn.Linear(9, 8), nn.EmbeddingBag(20, 8)
    ids = torch.randint(0, 20, (6, 3))

    def compute():
        scores = images(X) @ texts(ids).t()
        return F.cross_entropy(scores, torch.arange(6)) + F.cross_entropy(scores.t(), torch.arange(6))

    run = taped(compute, images=images, texts=texts)
    assert not findings_of("ARC011", run.tape, run.axes)


def test_series_that_are_time_first_and_whose_first_steps_are_left_out_are_silent(taped):
    layer, head = nn.GRU(1, 8), nn.Linear(8, 1)
    part, y = torch.randn(12, 6, 1), torch.randn(12, 30, 1)

    def compute():
        chosen = torch.arange(6)
        return F.mse_loss(head(layer(part)[0])[3:], y[3:, chosen])

    run = taped(compute, layer=layer, head=head)
    modules = (ModuleRecord("layer", "GRU", settings={"batch_first": False}, created=Source("net.py", 3)),)
    assert not findings_of("ARC022", run.tape, run.axes, ModuleTree(modules=modules))
