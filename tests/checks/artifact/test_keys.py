"""Rules on the keys: on the file alone, and against the reference model."""

import json
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file

from doctor.errors import DoctorError
from doctor.evidence.reference_model import adapted, common_prefix
from doctor.findings import Severity

MODEL = """
import torch
from torch import nn


class Block(nn.Module):
    def __init__(self, width):
        super().__init__()
        self.norm, self.up = nn.BatchNorm1d(width), nn.Linear(width, width)

    def forward(self, x):
        return x + self.up(self.norm(x).relu())


class Net(nn.Module):
    def __init__(self, width=24):
        super().__init__()
        self.embed = nn.Embedding(40, width)
        self.blocks = nn.ModuleList(Block(width) for _ in range(2))
        self.head = nn.Linear(width, 40, bias=False)
        self.head.weight = self.embed.weight
        self.register_buffer("scale", torch.tensor(2.0), persistent=False)

    def forward(self, ids):
        x = self.embed(ids).mean(1)
        for block in self.blocks:
            x = block(x)
        return self.head(x)


def build():
    net = Net()
    with torch.no_grad():
        generator = torch.Generator().manual_seed(5)
        for value in net.state_dict().values():
            if value.is_floating_point():
                value.copy_(torch.randn(value.shape, generator=generator).abs() * 0.3)
    return net.eval()


def fresh():
    return Net()


def crash():
    raise OSError("no such backbone")
"""


@pytest.fixture
def project(tmp_path, monkeypatch):
    """A folder with the model's code."""
    (tmp_path / "net.py").write_text(MODEL)
    monkeypatch.chdir(tmp_path)
    scope = {}
    exec(MODEL, scope)
    return scope


def write(state, name="net.safetensors"):
    if str(name).endswith("safetensors"):
        save_file({key: value.clone().contiguous() for key, value in state.items()}, name)
    else:
        torch.save(state, name)
    return name


def serious(report):
    return [f for f in report.findings if f.level is not Severity.INFO]


def state_of(project, drop=()):
    return {k: v.clone() for k, v in project["build"]().state_dict().items() if not k.startswith(tuple(drop) or ("-",))}


@pytest.mark.parametrize("factory", ["build", "fresh"])
def test_the_state_dict_of_the_reference_is_silent(factory, project, judge):
    state = state_of(project)
    for name, kept in (("a.safetensors", state), ("b.pt", project["build"]().state_dict())):
        assert not judge(write(kept, name), reference=f"net.py:{factory}").findings
    tied_once = {key: value for key, value in state.items() if key != "head.weight"}
    assert not judge(write(tied_once), reference=f"net.py:{factory}").findings


def test_half_precision_is_no_drift(project, judge):
    for dtype in (torch.float16, torch.bfloat16):
        state = {k: v.to(dtype) if v.is_floating_point() else v for k, v in state_of(project).items()}
        assert not serious(judge(write(state), reference="net.py:build"))


def test_missing_layers_are_named(project, judge):
    (finding,) = serious(judge(write(state_of(project, ("blocks.1",))), reference="net.py:build"))
    assert (finding.rule, finding.faults, finding.location.module) == ("MOD002", ("silent-missing-keys",), "blocks")


def test_parameters_without_buffers_are_missing_buffers(project, judge):
    state = {k: v for k, v in state_of(project).items() if "running" not in k and "num_batches" not in k}
    (finding,) = serious(judge(write(state), reference="net.py:fresh"))
    assert (finding.rule, finding.faults) == ("WGT003", ("missing-buffers",))


@pytest.mark.parametrize("prefix", ["module.", "_orig_mod.", "module._orig_mod.", "model.", "encoder.net."])
def test_a_prefix_is_named_and_the_rest_is_compared(prefix, project, judge):
    state = {prefix + key: value for key, value in state_of(project).items()}
    (finding,) = serious(judge(write(state), reference="net.py:build"))
    assert finding.faults == ("key-prefix-mismatch",)
    assert prefix in finding.message
    alone = serious(judge(write(state)))
    assert [f.faults for f in alone] == ([("key-prefix-mismatch",)] if "mod" in prefix and prefix != "model." else [])


def test_a_missing_prefix_is_named(project, judge):
    wrapper = MODEL + "\n\ndef wrapped():\n    return nn.ModuleDict({'backbone': build()})\n"
    Path("wrapped.py").write_text(wrapper)
    (finding,) = serious(judge(write(state_of(project)), reference="wrapped.py:wrapped"))
    assert '"backbone."' in finding.message
    assert "lack" in finding.message


def test_prefixes_by_themselves():
    reference = ["a.weight", "a.bias", "b.weight"]
    assert common_prefix(["module.a.weight", "module.a.bias", "module.b.weight"], reference) == "module."
    assert common_prefix(["a._orig_mod.weight", "a._orig_mod.bias", "b._orig_mod.weight"], reference) == "_orig_mod."
    assert common_prefix(["weight", "bias"], ["a.weight", "a.bias"]) == "-a."
    assert common_prefix(reference, reference) == ""
    assert common_prefix(["x.weight", "y.weight"], reference) == ""
    assert adapted("module.a._orig_mod.weight", "_orig_mod.module.") == "a.weight"


def test_an_older_architecture_is_drift(project, judge):
    state = state_of(project)
    state["blocks.2.up.weight"] = torch.randn(24, 24)
    (finding,) = serious(judge(write(state), reference="net.py:build"))
    assert (finding.rule, finding.faults) == ("MOD001", ("stale-artifact",))


def test_another_shape_is_named_with_both(project, judge):
    state = state_of(project)
    state["blocks.0.up.weight"] = torch.randn(32, 24)
    (finding,) = serious(judge(write(state), reference="net.py:build"))
    assert "shape-mismatch" in finding.faults
    assert "32x24" in finding.message
    assert "24x24" in finding.message


def test_one_tensor_of_another_checkpoint_is_stale(project, judge):
    state = state_of(project)
    state["blocks.0.up.weight"] = torch.randn(24, 24)
    (finding,) = serious(judge(write(state), reference="net.py:build"))
    assert finding.faults == ("stale-artifact",)
    assert not serious(judge(write(state), reference="net.py:fresh")), "a reference that is drawn anew is no measure"


def test_coarse_levels_are_a_quantization_error_and_fine_ones_are_not(project, judge):
    state = state_of(project)
    weight = state["blocks.0.up.weight"]
    for levels, sick in ((4, True), (200, False)):
        step = weight.max() / levels
        state["blocks.0.up.weight"] = (weight / step).round() * step
        found = serious(judge(write(state), reference="net.py:build"))
        assert [f.faults for f in found] == ([("quantization-error",)] if sick else [])


@pytest.mark.parametrize(("outlier", "sick"), [(1.0, False), (400.0, True)])
def test_integers_with_their_scales_are_compared_as_what_they_stand_for(outlier, sick, project, judge):
    state = state_of(project)
    for name in ("blocks.0.up.weight", "blocks.1.up.weight"):
        weight = state[name]
        scale = weight.abs().max() * outlier / 127  # one scale for a matrix, taken from an outlier
        state[name] = (weight / scale).round().to(torch.int8)
        state[name.replace("weight", "weight_scale")] = scale.reshape(1)
    found = serious(judge(write(state), reference="net.py:build"))
    assert {label for f in found for label in f.faults} == ({"quantization-error"} if sick else set())


def test_untied_weights(project, judge):
    state = state_of(project)
    state["head.weight"] = state["head.weight"] + 0.1
    found = serious(judge(write(state), reference="net.py:fresh"))
    assert [f.faults for f in found] == [("untied-weights",)]


def test_a_head_that_the_reference_has_trained(project, judge):
    state = state_of(project)
    state["blocks.1.up.weight"] = torch.nn.Linear(24, 24).weight.detach()
    found = serious(judge(write(state), reference="net.py:build"))
    assert {"untrained-layer"} <= {label for f in found for label in f.faults}


def test_adapters_beside_the_base_and_alone(project, judge):
    adapters = {f"blocks.{i}.up.lora_{m}.default.weight": torch.randn(4, 24) for i in range(2) for m in "AB"}
    found = serious(judge(write(state_of(project) | adapters)))
    assert [f.faults for f in found] == [("unmerged-adapter",)]
    Path("adapter_config.json").write_text(json.dumps({"base_model_name_or_path": "base"}))
    assert not serious(judge(write(adapters, "adapter_model.safetensors")))


def test_adapters_of_any_name_that_the_reference_lacks_are_the_one_cause(project, judge):
    state = state_of(project)
    other = {f"blocks.{i}.adapter.down.weight": torch.randn(4, 24) for i in range(2)}
    peft = dict(state)
    for kind in ("weight", "bias"):
        peft[f"blocks.0.up.base_layer.{kind}"] = peft.pop(f"blocks.0.up.{kind}")
    peft |= {f"blocks.0.up.lora_{m}.default.weight": torch.randn(4, 24) for m in "AB"}
    for wrapped in (state | other, peft):
        report = judge(write(wrapped), reference="net.py:build")
        causes = [f for f in serious(report) if f.caused_by is None]
        assert [f.faults for f in causes] == [("unmerged-adapter",)]
    assert not [f for f in serious(judge(write(state | other))) if f.rule == "MOD003"]  # it may be the model's own


def test_an_averaged_model_and_a_model_attribute_are_silent(judge, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    averaged = torch.optim.swa_utils.AveragedModel(torch.nn.Linear(4, 4))
    assert not serious(judge(write(averaged.state_dict(), "swa.pt")))
    assert not serious(judge(write({"model.layers.0.weight": torch.randn(3, 3), "lm_head.weight": torch.randn(3, 3)})))


def test_what_a_trainer_leaves_beside_the_weights_is_no_part_of_the_model(project, judge, tmp_path):
    folder = tmp_path / "checkpoint-10"
    folder.mkdir()
    net = project["build"]()
    save_file({k: v.clone() for k, v in net.state_dict().items() if k != "head.weight"}, folder / "model.safetensors")
    optimizer = torch.optim.AdamW(net.parameters())
    net.train()(torch.randint(0, 40, (8, 5))).sum().backward()
    optimizer.step()
    torch.save(optimizer.state_dict(), folder / "optimizer.pt")
    torch.save({"cpu": torch.get_rng_state()}, folder / "rng_state.pth")
    free = {"input_names": ["ids"], "dynamic_axes": {"ids": {0: "batch"}}}
    torch.onnx.export(net.eval(), (torch.randint(0, 40, (2, 5)),), str(folder / "model.onnx"), dynamo=False, **free)
    (folder / "config.json").write_text("{}")
    report = judge(folder, reference="net.py:build")
    assert not serious(report)
    assert not judge(folder / "optimizer.pt").findings


def test_a_reference_that_cannot_be_built_is_one_line(project, judge):
    name = write(state_of(project))
    with pytest.raises(DoctorError, match="no such backbone"):
        judge(name, reference="net.py:crash")
    with pytest.raises(DoctorError, match=r"no file nowhere\.py"):
        judge(name, reference="nowhere.py:build")


def test_a_reference_that_never_ends_is_ended(project, judge):
    Path("slow.py").write_text("import time\n\ndef build():\n    time.sleep(600)\n")
    with pytest.raises(DoctorError, match="not built within"):
        judge(write(state_of(project)), reference="slow.py:build", timeout_s=3.0)


def test_the_reference_writes_nothing_of_the_users(project, judge, tmp_path):
    text = MODEL + "\n\ndef writing():\n    open('left.txt', 'w').write('x')\n    return build()\n"
    (tmp_path / "writing.py").write_text(text)
    judge(write(state_of(project)), reference="writing.py:writing")
    assert not (tmp_path / "left.txt").exists()


def test_a_graph_beside_a_reference_is_looked_at_without_its_keys(project, judge):
    """Exporters keep some names of the state dict and rename others: neither is a difference of keys."""
    net = project["build"]()
    free = {"input_names": ["ids"], "output_names": ["y"], "dynamic_axes": {"ids": {0: "n"}, "y": {0: "n"}}}
    torch.onnx.export(net, (torch.randint(0, 40, (3, 7)),), "net.onnx", dynamo=False, **free)
    assert not serious(judge("net.onnx", reference="net.py:build"))


@pytest.mark.parametrize("bits", [8, 3])
def test_a_small_layer_of_few_levels_is_quantised_and_not_of_another_checkpoint(bits, project, judge):
    state = state_of(project)
    net = project["build"]()
    grid = 2 ** (bits - 1) - 1
    for name in [name for name in state if name.endswith("up.weight")]:
        weight = net.state_dict()[name].clone()[:20]  # 480 values
        step = weight.abs().max() / grid
        state[name][:20] = (weight / step).round() * step
        state[name][20:] = (state[name][20:] / step).round() * step
    faults = {fault for finding in serious(judge(write(state), reference="net.py:build")) for fault in finding.faults}
    assert "stale-artifact" not in faults or bits == 3
    assert ("quantization-error" in faults) == (bits == 3)


@pytest.mark.parametrize("entry", ["model", "ema_and_more"])
def test_tensors_beside_the_state_dict_of_a_checkpoint_are_no_part_of_it(entry, project, judge):
    state = state_of(project)
    averaged = {f"module.{name}": value * 0.999 for name, value in state.items()}
    saved = {"model": state, "class_weights": torch.rand(40), "mask": torch.zeros(0, 3), "model_ema": averaged}
    if entry == "model":
        assert not serious(judge(write(saved, "last.pt"), reference="net.py:build"))
    else:  # a state dict whose module keeps extra state is still one
        plain = {**state, "embed._extra_state": {"scale": torch.ones(2)}, "head._extra_state": {}}
        faults = {
            fault for f in serious(judge(write(plain, "last.pt"), reference="net.py:build")) for fault in f.faults
        }
        assert "silent-missing-keys" not in faults


def test_a_tied_table_of_any_name_is_known_by_its_shape(project, tmp_path, judge):
    state = {
        "tok.weight": torch.randn(40, 24),
        "pos.weight": torch.randn(64, 24),
        "lm_head.weight": torch.randn(40, 24),
    }
    folder = tmp_path / "model"
    folder.mkdir()
    (folder / "config.json").write_text(json.dumps({"model_type": "x", "tie_word_embeddings": True}))
    write(state, folder / "model.safetensors")
    assert [f.faults for f in serious(judge(folder))] == [("untied-weights",)]
    write(state | {"lm_head.weight": state["tok.weight"]}, folder / "model.safetensors")
    assert not [f for f in serious(judge(folder)) if f.rule == "MOD003"]


def test_weights_that_are_packed_with_their_scales_are_not_missing(project, judge):
    torch.manual_seed(0)
    quantised = torch.ao.quantization.quantize_dynamic(project["build"](), {torch.nn.Linear}, dtype=torch.qint8)
    torch.jit.trace(quantised, torch.randint(0, 40, (2, 5))).save("net.pt")
    assert not [f for f in serious(judge("net.pt", reference="net.py:build")) if f.rule == "MOD002"]


def test_an_adapter_in_a_graph_is_unmerged_unless_the_reference_has_it(project, tmp_path, judge):
    torch.manual_seed(0)

    class Adapted(torch.nn.Module):
        def __init__(self):
            super().__init__()
            self.base_layer = torch.nn.Linear(8, 8)
            self.lora_A, self.lora_B = torch.nn.Linear(8, 2, bias=False), torch.nn.Linear(2, 8, bias=False)

        def forward(self, x):
            return self.base_layer(x) + self.lora_B(self.lora_A(x))

    class Net(torch.nn.Module):
        def __init__(self):
            super().__init__()
            self.layer = Adapted()

        def forward(self, x):
            return self.layer(x).relu()

    torch.onnx.export(
        Net(), (torch.randn(3, 8),), "net.onnx", dynamo=False, dynamic_axes={"x": {0: "n"}}, input_names=["x"]
    )
    assert [f.faults for f in serious(judge("net.onnx"))] == [("unmerged-adapter",)]
    (tmp_path / "lora.py").write_text(
        "import torch\n\nclass Net(torch.nn.Module):\n    def __init__(self):\n        super().__init__()\n"
        "        self.lora_A = torch.nn.Linear(8, 2)\n\n    def forward(self, x):\n        return x\n\nbuild = Net\n"
    )
    assert not [f for f in judge("net.onnx", reference="lora.py:build").findings if f.rule == "MOD003"]


SPARSE = """
import torch
from torch import nn


class Graph(nn.Module):
    def __init__(self):
        super().__init__()
        eye = torch.arange(30)
        links = torch.sparse_coo_tensor(torch.stack([eye, eye.flip(0)]), torch.rand(30) + 1, (30, 30)).coalesce()
        self.register_buffer("links", links)
        self.out = nn.Linear(8, 3)

    def forward(self, x):
        return self.out(torch.sparse.mm(self.links, x))


def build():
    torch.manual_seed(3)
    return Graph().eval()
"""


def test_a_sparse_buffer_is_no_obstacle_and_is_missed_where_it_is_missing(tmp_path, monkeypatch, judge):
    (tmp_path / "graph.py").write_text(SPARSE)
    monkeypatch.chdir(tmp_path)
    scope = {}
    exec(SPARSE, scope)
    state = scope["build"]().state_dict()
    assert not serious(judge(write(state, "whole.pt"), reference="graph.py:build"))
    del state["links"]
    found = serious(judge(write(state, "parameters.pt"), reference="graph.py:build"))
    assert "missing-buffers" in {label for finding in found for label in finding.faults}


def test_a_program_in_a_folder_of_its_own_is_run_beside_its_reference(project, tmp_path, judge):
    folder = tmp_path / "release"
    folder.mkdir()
    torch.onnx.export(
        project["build"](), (torch.zeros(3, 5, dtype=torch.long),), str(folder / "model.onnx"), dynamo=False
    )
    report = judge(folder, reference="net.py:build")
    assert not [finding for finding in report.findings if finding.rule == "IOC012"]
    assert not [skip for skip in report.skipped if skip.rule == "IOC001"]
