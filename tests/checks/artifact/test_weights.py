"""Rules on the numbers of the weights, on the file alone."""

import copy

import pytest
import torch
from safetensors.torch import save_file
from torch import nn

from doctor.evidence.weight_stats import TensorStats, WeightStats
from doctor.findings import Severity
from doctor.testing import findings_of


def state_of(net):
    return {name: value.clone() for name, value in net.state_dict().items()}


def save(state, folder, kind="safetensors"):
    path = folder / f"net.{kind}"
    if kind == "safetensors":
        save_file({name: value.contiguous() for name, value in state.items()}, path)
    else:
        torch.save(state, path)
    return path


def serious(report, rule=None):
    return [f for f in report.findings if f.level is not Severity.INFO and rule in (None, f.rule)]


@pytest.mark.parametrize("kind", ["safetensors", "pt"])
class TestNanWeights:
    def test_one_nan_is_named(self, kind, net, tmp_path, judge):
        state = state_of(net)
        state["3.weight"][4, 5] = float("nan")
        (finding,) = serious(judge(save(state, tmp_path, kind)))
        assert (finding.rule, finding.location.tensor, finding.faults) == ("WGT001", "3.weight", ("nan-weights",))
        assert finding.measured["non_finite"].value == 1

    def test_infinity_in_float32(self, kind, net, tmp_path, judge):
        state = state_of(net)
        state["5.bias"][0] = float("-inf")
        assert serious(judge(save(state, tmp_path, kind)), "WGT001")

    def test_a_mask_of_minus_infinity_is_silent(self, kind, net, tmp_path, judge):
        state = state_of(net) | {"mask": torch.full((8, 8), float("-inf")).triu(1)}
        assert not serious(judge(save(state, tmp_path, kind)))

    def test_a_trained_network_is_silent(self, kind, net, tmp_path, judge):
        assert not judge(save(state_of(net), tmp_path, kind)).findings


def test_nan_in_a_transposed_tensor_is_found(net, tmp_path, judge):
    weight = torch.randn(6, 9)
    weight[2, 3] = float("nan")
    torch.save({"a": weight.t(), "b": torch.randn(4)}, tmp_path / "net.pt")
    (finding,) = serious(judge(tmp_path / "net.pt"))
    assert finding.location.tensor == "a"


def test_nan_in_scripted_exported_and_legacy_files_is_found(net, tmp_path, judge):
    sick = copy.deepcopy(net)
    sick.state_dict()["3.weight"][0, 0] = float("nan")
    torch.jit.script(sick).save(tmp_path / "a.pt")
    torch.export.save(torch.export.export(sick, (torch.randn(2, 20),)), tmp_path / "b.pt2")
    torch.save(sick.state_dict(), tmp_path / "c.pth", _use_new_zipfile_serialization=False)
    torch.onnx.export(sick, (torch.randn(2, 20),), str(tmp_path / "d.onnx"), dynamo=False)
    for name in ("a.pt", "b.pt2", "c.pth", "d.onnx"):
        (finding,) = serious(judge(tmp_path / name), "WGT001")
        assert "3.weight" in finding.location.tensor


class TestOverflow:
    def test_an_overflown_conversion_is_named(self, net, tmp_path, judge):
        state = state_of(net)
        state["1.running_var"][3] = 81200.0
        half = {name: value.half() if value.is_floating_point() else value for name, value in state.items()}
        (finding,) = serious(judge(save(half, tmp_path)))
        assert (finding.rule, finding.location.tensor) == ("WGT002", "1.running_var")
        assert finding.faults == ("dtype-overflow",)

    def test_a_clamped_conversion_is_named(self, net, tmp_path, judge):
        state = state_of(net)
        state["1.running_var"][3] = 81200.0
        half = {n: v.clamp(-65504, 65504).half() if v.is_floating_point() else v for n, v in state.items()}
        assert serious(judge(save(half, tmp_path)), "WGT002")

    @pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float64])
    def test_a_fitting_conversion_is_silent(self, dtype, net, tmp_path, judge):
        state = {n: v.to(dtype) if v.is_floating_point() else v for n, v in state_of(net).items()}
        assert not serious(judge(save(state, tmp_path)))

    def test_a_mask_with_the_lowest_number_is_silent(self, net, tmp_path, judge):
        low = torch.full((8, 8), torch.finfo(torch.float16).min, dtype=torch.float16).triu(1)
        assert not serious(judge(save(state_of(net) | {"attn.mask": low}, tmp_path)))

    def test_a_float8_tensor_scaled_to_its_range_is_silent(self, tmp_path, judge):
        weight = torch.randn(64, 64)
        scale = weight.abs().max() / 448
        state = {"a.weight": (weight / scale).to(torch.float8_e4m3fn), "a.weight_scale": scale.reshape(1)}
        assert not serious(judge(save(state, tmp_path)))

    def test_a_scale_of_zero_and_clipped_integers_are_quantization_errors(self, tmp_path, judge):
        weight = torch.randn(64, 64)
        clipped = (weight / 0.005).round().clamp(-128, 127).to(torch.int8)
        state = {"a.weight": clipped, "a.scale": torch.tensor([0.005, 0.0])}
        found = serious(judge(save(state, tmp_path)), "WGT002")
        assert {f.location.tensor for f in found} == {"a.weight", "a.scale"}
        assert all(f.faults == ("quantization-error",) for f in found)
        scale = weight.abs().amax(1, keepdim=True) / 127
        healthy = {"a.weight": (weight / scale).round().to(torch.int8), "a.scale": scale}
        assert not serious(judge(save(healthy, tmp_path)))


class TestMissingBuffers:
    def test_statistics_at_their_initial_values_under_trained_weights(self, net, tmp_path, judge):
        state = state_of(net)
        state["1.running_mean"].zero_()
        state["1.running_var"].fill_(1.0)
        (finding,) = serious(judge(save(state, tmp_path)))
        assert (finding.rule, finding.location.tensor) == ("WGT003", "1.running_mean")

    def test_half_of_the_statistics(self, net, tmp_path, judge):
        state = state_of(net)
        del state["1.running_var"]
        assert serious(judge(save(state, tmp_path)), "WGT003")

    def test_a_fresh_model_is_silent(self, tmp_path, judge):
        fresh = nn.Sequential(nn.Conv2d(3, 8, 3), nn.BatchNorm2d(8), nn.Conv2d(8, 8, 3), nn.BatchNorm2d(8))
        assert not serious(judge(save(state_of(fresh), tmp_path)))

    def test_a_model_without_statistics_is_silent(self, tmp_path, judge):
        plain = nn.Sequential(nn.Linear(8, 8), nn.BatchNorm1d(8, track_running_stats=False))
        assert not serious(judge(save(state_of(plain), tmp_path)))


class TestDuplicates:
    def test_one_layer_under_two_names(self, net, tmp_path, judge):
        state = state_of(net)
        state["6.weight"] = state["5.weight"].clone()
        (finding,) = serious(judge(save(state, tmp_path)))
        assert finding.faults == ("duplicate-tensors",)
        assert "5.weight" in finding.message
        assert "6.weight" in finding.message

    def test_tied_embeddings_and_averaged_copies_are_silent(self, tmp_path, judge):
        table = torch.randn(50, 16)
        state = {"embed.weight": table, "lm_head.weight": table.clone(), "ema.fc.weight": torch.randn(8, 8)}
        state["fc.weight"] = state["ema.fc.weight"].clone()
        assert not serious(judge(save(state, tmp_path)))

    def test_a_table_and_a_head_of_any_name_are_silent_and_two_linear_layers_are_not(self, tmp_path, judge):
        table = torch.randn(60, 16)
        assert not serious(judge(save({"e.weight": table, "head.weight": table.clone()}, tmp_path)))
        layers = {
            "a.weight": table,
            "head.weight": table.clone(),
            "a.bias": torch.randn(60),
            "head.bias": torch.randn(60),
        }
        assert serious(judge(save(layers, tmp_path)))

    def test_shared_storage_is_silent(self, net, tmp_path, judge):
        state = state_of(net)
        state["alias.weight"] = state["5.weight"]
        assert not serious(judge(save(state, tmp_path, "pt")))

    def test_tables_of_every_block_and_a_fresh_transformer_are_silent(self, tmp_path, judge):
        frequencies = 1 / 10000 ** (torch.arange(0, 32, 2) / 32)
        state = {f"layers.{i}.rotary_emb.inv_freq": frequencies.clone() for i in range(3)}
        assert not serious(judge(save(state, tmp_path)))
        encoder = nn.TransformerEncoder(nn.TransformerEncoderLayer(32, 4, 64), 3)
        assert not serious(judge(save(state_of(encoder), tmp_path)))


class TestUntrained:
    def test_a_head_made_anew_is_found(self, net, tmp_path, judge):
        state = state_of(net)
        head = nn.Linear(20, 4)
        state["5.weight"], state["5.bias"] = head.weight.detach(), head.bias.detach()
        (finding,) = serious(judge(save(state, tmp_path)))
        assert (finding.rule, finding.location.module) == ("WGT005", "5")

    @pytest.mark.parametrize(
        "init", [nn.init.xavier_uniform_, nn.init.kaiming_normal_, lambda w: nn.init.normal_(w, std=0.02)]
    )
    def test_a_head_drawn_otherwise_with_a_bias_of_zeros_is_found(self, init, net, tmp_path, judge):
        state = state_of(net)
        state["5.weight"], state["5.bias"] = init(torch.empty(24, 20)), torch.zeros(24)
        (finding,) = serious(judge(save(state, tmp_path)))
        assert (finding.rule, finding.location.module) == ("WGT005", "5")
        state["5.bias"] = torch.randn(24) * 0.01
        assert not serious(judge(save(state, tmp_path)))

    def test_a_recurrent_layer_made_anew_is_found(self, net, tmp_path, judge):
        state = state_of(net) | {f"rnn.{key}": value.clone() for key, value in nn.LSTM(16, 24).state_dict().items()}
        assert {f.location.module for f in serious(judge(save(state, tmp_path)))} == {"rnn"}
        for key in state:
            if key.startswith("rnn."):
                state[key] += 0.01 * torch.randn(state[key].shape)
        assert not serious(judge(save(state, tmp_path)))

    def test_a_wholly_fresh_model_is_information(self, tmp_path, judge):
        fresh = nn.Sequential(nn.Linear(32, 64), nn.ReLU(), nn.Linear(64, 64), nn.ReLU(), nn.Linear(64, 8))
        report = judge(save(state_of(fresh), tmp_path))
        assert not serious(report)
        assert [finding.rule for finding in report.findings] == ["WGT005"]

    def test_a_short_training_is_training(self, tmp_path, judge):
        torch.manual_seed(1)
        net = nn.Sequential(
            nn.Linear(16, 64), nn.LayerNorm(64), nn.ReLU(), nn.Linear(64, 64), nn.ReLU(), nn.Linear(64, 2)
        )
        optimizer = torch.optim.SGD(net.parameters(), 0.05, momentum=0.9)
        x = torch.randn(128, 16)
        y = (x[:, 0] > 0).long()
        for _ in range(60):
            optimizer.zero_grad()
            nn.functional.cross_entropy(net(x), y).backward()
            optimizer.step()
        assert not serious(judge(save(state_of(net), tmp_path)))

    @pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16])
    @pytest.mark.parametrize("adam", [True, False])
    def test_a_training_of_a_few_steps_is_no_error(self, adam, dtype, tmp_path, judge):
        torch.manual_seed(3)
        net = nn.Sequential(
            nn.Linear(64, 128), nn.LayerNorm(128), nn.ReLU(), nn.Linear(128, 128), nn.ReLU(), nn.Linear(128, 4)
        )
        optimizer = torch.optim.AdamW(net.parameters(), 1e-4) if adam else torch.optim.SGD(net.parameters(), 1e-3)
        for _ in range(15):
            optimizer.zero_grad()
            nn.functional.cross_entropy(net(torch.randn(64, 64)), torch.randint(0, 4, (64,))).backward()
            optimizer.step()
        assert not serious(judge(save({k: v.to(dtype) for k, v in state_of(net).items()}, tmp_path)))

    def test_other_initialisations_are_silent(self, tmp_path, judge):
        net = nn.Sequential(nn.Linear(32, 64), nn.ReLU(), nn.Linear(64, 64), nn.ReLU(), nn.Linear(64, 8))
        for layer in list(net)[:3:2]:
            nn.init.xavier_uniform_(layer.weight)
            nn.init.zeros_(layer.bias)
        assert not serious(judge(save(state_of(net), tmp_path)))

    def test_a_matrix_of_zeros_is_dead_and_that_of_an_adapter_is_not(self, net, tmp_path, judge):
        state = state_of(net)
        state["3.weight"].zero_()
        assert serious(judge(save(state, tmp_path)), "WGT005")
        alone = TensorStats("l.lora_B.default.weight", "float32", (16, 8), count=128)
        assert all(f.severity is Severity.INFO for f in findings_of("WGT005", WeightStats((alone,))))


def test_the_uniform_test_knows_a_draw_from_what_moved():
    from doctor.evidence.artifact_contents import TensorEntry
    from doctor.evidence.weight_stats import _stats
    from doctor.formats.numbers import Moments

    def stats(values):
        seen = Moments()
        seen.add(values.numpy().ravel(), "float32", 4096)
        return _stats(TensorEntry("w", "float32", tuple(values.shape), "f"), seen)

    torch.manual_seed(0)
    drawn = [
        stats(nn.Linear(n, m).weight.detach()).uniform_within(n**-0.5)
        for n in (16, 64, 300)
        for m in (8, 64)
        for _ in range(50)
    ]
    assert sum(drawn) >= 295
    moved = [
        stats(nn.Linear(64, m).weight.detach() + 0.004 * torch.randn(m, 64)).uniform_within(0.125)
        for m in (8, 64)
        for _ in range(50)
    ]
    assert not any(moved)


def test_layers_called_batch_norm_without_statistics_are_a_warning(tmp_path, judge):
    class Net(nn.Module):
        def __init__(self, norm):
            super().__init__()
            self.conv, self.bn1, self.fc = nn.Conv2d(3, 8, 3), norm(8), nn.Linear(8, 4)

    def saved(norm, drop=("running", "num_batches")):
        torch.manual_seed(0)
        state = state_of(Net(norm))
        state["bn1.weight"] += torch.randn(8) * 0.1
        return save({name: value for name, value in state.items() if not any(word in name for word in drop)}, tmp_path)

    (finding,) = serious(judge(saved(nn.BatchNorm2d)), "WGT003")
    assert (finding.level, finding.faults) == (Severity.WARNING, ("missing-buffers",))
    assert "bn1" in finding.message
    whole = state_of(Net(nn.BatchNorm2d))
    whole["bn1.running_mean"] += 1.0
    assert not serious(judge(save(whole, tmp_path)), "WGT003")
    renamed = {name.replace("bn1", "norm1"): value for name, value in state_of(Net(nn.InstanceNorm2d)).items()}
    assert not serious(judge(save(renamed, tmp_path)), "WGT003")


def test_flipped_bits_of_an_exponent_are_damage_and_masks_are_not(net, tmp_path, judge):
    state = state_of(net)
    whole = state["0.weight"].clone()
    for values, sick in (
        ((7.3e23,), True),
        ((-4.1e30, 2.2e18), True),
        ((-1e30,), False),
        ((torch.finfo().min,), False),
    ):
        state["0.weight"] = whole.clone()
        state["0.weight"].view(-1)[5 : 5 + len(values)] = torch.tensor(values)
        found = [f for f in serious(judge(save(state, tmp_path))) if "corrupt-file" in f.faults]
        assert [f.location.tensor for f in found] == (["0.weight"] if sick else [])


def test_an_embedding_and_a_norm_as_drawn_beside_a_reference_that_has_trained_them(tmp_path, monkeypatch, judge):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "net.py").write_text(
        "import torch\nfrom torch import nn\n\n\ndef build():\n    torch.manual_seed(1)\n"
        "    net = nn.Sequential(nn.Embedding(40, 16), nn.LayerNorm(16), nn.Linear(16, 16), nn.Linear(16, 4))\n"
        "    with torch.no_grad():\n        for value in net.parameters():\n"
        "            value.mul_(2.0).add_(0.3 * torch.randn_like(value))\n    return net\n"
    )
    scope = {}
    exec((tmp_path / "net.py").read_text(), scope)
    state = state_of(scope["build"]())
    torch.manual_seed(5)
    for name, drawn in (("0.weight", torch.randn(40, 16)), ("1.weight", torch.ones(16))):
        report = judge(save(state | {name: drawn}, tmp_path), reference="net.py:build")
        assert [f.location.tensor for f in serious(report, "WGT005")] == [name]
    other = torch.randn(40, 16) * 0.6
    assert not serious(judge(save(state | {"0.weight": other}, tmp_path), reference="net.py:build"), "WGT005")
    assert not serious(judge(save(state, tmp_path), reference="net.py:build"))


def test_an_untrained_head_beside_layers_that_an_exporter_folded(tmp_path, judge):
    torch.manual_seed(0)
    model = nn.Sequential(
        nn.Conv2d(3, 12, 3, bias=False),
        nn.BatchNorm2d(12),
        nn.ReLU(),
        nn.AdaptiveAvgPool2d(1),
        nn.Flatten(),
        nn.Linear(12, 10),
    )
    with torch.no_grad():
        model[0].weight.mul_(2.5)
        model[1].running_mean.normal_()
        model[1].running_var.uniform_(0.5, 1.5)
    path = tmp_path / "net.onnx"
    for trained in (False, True):
        if trained:
            with torch.no_grad():
                model[5].weight.mul_(1.8)
        torch.onnx.export(
            model.eval(),
            (torch.randn(2, 3, 8, 8),),
            str(path),
            dynamo=False,
            input_names=["x"],
            dynamic_axes={"x": {0: "n"}},
        )
        assert [f.location.tensor for f in serious(judge(path), "WGT005")] == ([] if trained else ["5.weight"])
