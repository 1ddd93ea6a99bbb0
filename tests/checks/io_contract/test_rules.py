"""Each fault in several formats, found by the rule of its name; beside it what looks alike and is healthy."""

from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn
from torch.nn import functional as F

from doctor.findings import Severity


class Around(nn.Module):
    """A model with something done to its inputs or outputs."""

    def __init__(self, model, before=None, after=None):
        super().__init__()
        self.model, self.before, self.after = model, before or (lambda *x: x), after or (lambda y: y)

    def forward(self, *inputs):
        return self.after(self.model(*self.before(*inputs)))


PRESERVE = {"training": torch.onnx.TrainingMode.PRESERVE, "do_constant_folding": False}


class TestTrainMode:
    @pytest.mark.parametrize("way", ["onnx", "traced", "scripted", "pt2"])
    def test_an_export_of_a_training_model(self, way, nets, exports, examine):
        options = PRESERVE if way == "onnx" else {}
        seen = examine(getattr(exports, way)("photo", nets.photo().train(), **options), "photo")
        assert "train-mode-export" in seen.told["IOC002"].faults
        assert set(seen.told) == {"IOC002"}  # what follows from it is not told again

    def test_the_file_alone_tells_it(self, nets, exports, examine):
        seen = examine(exports.onnx("photo", nets.photo().train(), **PRESERVE), inputs=False)
        assert "BatchNormalization" in seen.told["IOC002"].message

    def test_an_exporter_that_dissolves_the_layers_is_seen_by_the_outputs(self, nets, exports, examine):
        class Dissolved(nets.Photo):
            def forward(self, images):
                x = self.conv(images)
                mean, var = x.mean((0, 2, 3), keepdim=True), x.var((0, 2, 3), unbiased=False, keepdim=True)
                x = (x - mean) / (var + 1e-5).sqrt() * self.bn.weight.view(1, -1, 1, 1) + self.bn.bias.view(1, -1, 1, 1)
                return self.out(F.relu(x).mean((2, 3)))

        model = Dissolved().eval()
        model.load_state_dict(nets.photo().state_dict())
        seen = examine(exports.onnx("photo", model), "photo")
        assert "training mode" in seen.told["IOC002"].message

    def test_dropout_without_a_rate_and_norms_without_statistics_are_healthy(self, nets, exports, examine):
        class Plain(nn.Module):
            def __init__(self):
                super().__init__()
                self.conv, self.drop, self.norm = nn.Conv2d(3, 4, 3), nn.Dropout(0.0), nn.InstanceNorm2d(4)

            def forward(self, images):
                return self.drop(self.norm(self.conv(images))).amax((2, 3))

        model = Plain()
        model.drop.train()
        for path in (exports.traced("photo", model), exports.scripted("photo", model), exports.pt2("photo", model)):
            assert "IOC002" not in examine(path, inputs=False).told


class TestBatch:
    class Baked(nn.Module):
        def __init__(self, model):
            super().__init__()
            self.model = model

        def forward(self, images):
            x = F.relu(self.model.bn(self.model.conv(images))).mean((2, 3))
            return self.model.out(x.reshape(5, 8))

    @pytest.mark.parametrize("way", ["onnx", "traced"])
    def test_a_batch_size_in_a_reshape(self, way, nets, exports, examine):
        seen = examine(getattr(exports, way)("photo", self.Baked(nets.photo())), "photo")
        assert seen.told["IOC003"].faults == ("fixed-batch-dim",)
        assert "1, 2, 7" in seen.told["IOC003"].message

    def test_a_batch_size_in_a_reshape_without_reference_or_inputs(self, nets, exports, examine):
        seen = examine(exports.onnx("photo", self.Baked(nets.photo())), inputs=False)
        assert set(seen.told) == {"IOC003"}

    def test_a_declared_batch_that_is_not_the_samples(self, nets, exports, examine):
        one = {"images": nets.SAMPLES["photo"]()["images"][:1]}
        seen = examine(exports.onnx("photo", sample=one, free={}), "photo")
        assert set(seen.told) == {"IOC003"}
        assert "the sample has 5 rows" in seen.told["IOC003"].message

    def test_a_declared_batch_larger_than_1(self, exports, examine):
        assert set(examine(exports.onnx("photo", free={}), "photo").told) == {"IOC003"}

    def test_a_program_of_torch_export_is_fixed_by_default_and_fails_with_another_sample(self, nets, exports, examine):
        path = exports.pt2("photo", free=False)
        same = examine(path, "photo").told
        assert {code: finding.level for code, finding in same.items()} == {"IOC003": Severity.WARNING}
        more = {"images": nets.noise(6, 3, 8, 8)}
        assert "fixed-batch-dim" in examine(path, "photo", more).told["IOC003"].faults

    def test_a_batch_of_1_that_is_sent_so_is_healthy(self, nets, exports, examine):
        one = {"images": nets.SAMPLES["photo"]()["images"][:1]}
        seen = examine(exports.onnx("photo", sample=one, free={}), "photo", one)
        assert seen.told == {}
        assert [finding.rule for finding in seen.findings] == ["IOC003"]

    def test_the_length_of_a_sequence_that_comes_first_is_no_batch(self, exports, examine):
        seen = examine(exports.onnx("track", free={"steps": {1: "columns"}}), "track")
        assert "IOC003" not in seen.told


class TestSignature:
    def test_another_name_than_clients_send(self, exports, examine):
        seen = examine(exports.onnx("tagger", names=("tokens", "lengths")), "tagger")
        assert "tokens where clients send input_ids" in seen.told["IOC004"].message

    def test_another_dtype_than_clients_send(self, nets, exports, examine):
        ints = {key: value.int() for key, value in nets.SAMPLES["tagger"]().items()}
        seen = examine(exports.onnx("tagger", sample=ints), "tagger")
        assert "input_ids is declared int32 and sent as int64" in seen.told["IOC004"].message

    def test_another_rank_than_clients_send(self, nets, exports, examine):
        flat = Around(nets.photo(), before=lambda x: (x.unflatten(1, (3, 8, 8)),))
        sample = {"images": nets.noise(5, 192)}
        seen = examine(exports.onnx("photo", flat, sample), "photo")
        assert "2 dimensions are declared, 4 are sent" in seen.told["IOC004"].message
        assert "IOC012" not in seen.told  # the failure follows from it

    def test_outputs_of_another_shape(self, nets, exports, examine):
        path = exports.onnx("match", Around(nets.match(), after=lambda y: y.transpose(0, 1)))
        assert "wrong-io-signature" in examine(path, "match").told["IOC004"].faults

    def test_json_knows_no_dtypes(self, nets, exports, examine, tmp_path):
        import json

        ints = {key: value.int() for key, value in nets.SAMPLES["tagger"]().items()}
        file = tmp_path / "sample.json"
        file.write_text(json.dumps({key: value.tolist() for key, value in ints.items()}))
        assert examine(exports.onnx("tagger", sample=ints), "tagger", given=file).told == {}

    def test_arrays_without_names_go_by_position(self, nets, exports, examine, tmp_path):
        file = tmp_path / "sample.npz"
        np.savez(file, *[value.numpy() for value in nets.SAMPLES["match"]().values()])
        seen = examine(exports.onnx("match", names=("u", "i")), "match", given=file)
        assert seen.told == {}
        assert seen.parity.faithful

    def test_floats_in_numpys_own_precision_are_healthy(self, nets, exports, examine):
        doubles = {key: value.double() for key, value in nets.SAMPLES["match"]().items()}
        for path in (exports.onnx("match"), exports.traced("match"), exports.weights("match")):
            seen = examine(path, "match", doubles)
            assert seen.told == {}
            assert seen.parity.faithful

    def test_a_traced_half_of_the_model_is_healthy_with_a_sample_in_float32(self, nets, exports, examine):
        half = {key: value.half() for key, value in nets.SAMPLES["match"]().items()}
        seen = examine(exports.traced("match", nets.match().half(), half), "match")
        assert seen.told == {}
        assert seen.parity.faithful


class TestSwapped:
    @pytest.mark.parametrize("way", ["traced", "pt2"])
    def test_inputs_in_another_order(self, way, nets, exports, examine):
        class Reversed(nn.Module):
            def __init__(self, model):
                super().__init__()
                self.model = model

            def forward(self, item, user):
                return self.model(user, item)

        seen = examine(getattr(exports, way)("match", Reversed(nets.match())), "match")
        assert seen.told["IOC008"].faults[0] == "swapped-inputs"
        assert set(seen.told) == {"IOC008"}

    def test_inputs_under_each_others_names(self, exports, examine):
        seen = examine(exports.onnx("match", names=("item", "user")), "match")
        assert "user" in seen.told["IOC008"].message
        assert set(seen.told) == {"IOC008"}

    def test_outputs_under_each_others_names(self, nets, exports, examine):
        path = exports.onnx("heads", Around(nets.heads(), after=lambda y: (y[1], y[0])), outputs=("a", "b"))
        assert set(examine(path, "heads").told) == {"IOC008"}

    def test_names_in_another_order_are_healthy_where_clients_send_names(self, nets, exports, examine):
        class Reversed(nn.Module):
            def __init__(self, model):
                super().__init__()
                self.model = model

            def forward(self, item, user):
                return self.model(user, item)

        sample = dict(reversed(nets.SAMPLES["match"]().items()))
        path = exports.onnx("match", Reversed(nets.match()), sample, names=("item", "user"))
        assert examine(path, "match").told == {}

    def test_two_outputs_in_order_are_healthy(self, exports, examine):
        assert examine(exports.onnx("heads", outputs=("a", "b")), "heads").told == {}


class TestMissing:
    def test_an_input_that_became_a_constant(self, nets, exports, examine):
        everything = Around(nets.tagger(), before=lambda ids: (ids, torch.full_like(ids[:, 0], 9)))
        sample = {"input_ids": nets.SAMPLES["tagger"]()["input_ids"]}
        seen = examine(exports.onnx("tagger", everything, sample), "tagger")
        assert "lengths changes the reference's outputs, and is no input of the artifact" in seen.told["IOC007"].message

    def test_an_input_that_has_no_effect(self, nets, exports, examine):
        class Deaf(nn.Module):
            def __init__(self, model):
                super().__init__()
                self.model = model

            def forward(self, input_ids, lengths):
                return self.model(input_ids, torch.full_like(lengths, 9)) + 0 * lengths.sum()

        sample = nets.SAMPLES["tagger"]() | {"lengths": torch.full((5,), 9)}
        sample["lengths"][0] = 8
        seen = examine(exports.onnx("tagger", Deaf(nets.tagger())), "tagger", sample)
        assert "has no effect in the artifact" in seen.told["IOC007"].message

    def test_an_output_that_is_missing(self, nets, exports, examine):
        seen = examine(exports.onnx("heads", Around(nets.heads(), after=lambda y: y[0])), "heads")
        assert "gives 1 outputs, the reference 2" in seen.told["IOC007"].message

    def test_arguments_with_a_default_are_not_missing(self, exports, examine, tmp_path):
        class Optional(nn.Module):
            def __init__(self):
                super().__init__()
                self.out = nn.Linear(6, 2)

            def forward(self, x, scale: float = 1.0, mask: torch.Tensor | None = None):
                y = self.out(x) * scale
                return y if mask is None else y * mask

        file = tmp_path / "x.npz"
        np.savez(file, x=np.ones((4, 6), np.float32))
        assert examine(exports.scripted("gate", Optional().eval()), given=file).told == {}

    def test_further_outputs_by_name_may_be_left_out(self, nets, exports, examine):
        seen = examine(exports.onnx("match", outputs=("scores",)), "match")
        assert "IOC007" not in seen.told


class TestPreprocessing:
    @pytest.mark.parametrize("way", ["onnx", "traced", "pt2"])
    def test_normalisation_that_the_reference_does_and_the_artifact_does_not(self, way, nets, exports, examine):
        seen = examine(getattr(exports, way)("camera", nets.camera().net), "camera")
        assert "missing-preprocessing" in seen.told["IOC005"].faults
        assert set(seen.told) == {"IOC005"}

    def test_channels_in_reverse_order(self, nets, exports, examine):
        path = exports.onnx("photo", Around(nets.photo(), before=lambda x: (x.flip(1),)))
        assert "reverse order" in examine(path, "photo").told["IOC005"].message

    def test_a_raw_sample_of_what_the_reference_has_normalised(self, nets, exports, examine):
        raw = {"images": nets.scaled().sample_inputs()[0] * 60 + 110}
        seen = examine(exports.onnx("photo"), "scaled", raw)
        assert "other units" in seen.told["IOC005"].message

    def test_a_raw_sample_that_the_artifact_converts_by_itself_is_healthy(self, nets, exports, examine):
        raw = {"images": nets.scaled().sample_inputs()[0] * 60 + 110}
        path = exports.onnx("photo", Around(nets.photo(), before=lambda x: ((x - 110) / 60,)), raw)
        assert examine(path, "scaled", raw).told == {}

    def test_other_weights_are_no_matter_of_preprocessing(self, nets, exports, examine):
        seen = examine(exports.onnx("photo", nets.settled(nets.Photo(), seed=8)), "photo")
        assert "IOC005" not in seen.told


class TestMismatch:
    def test_another_training(self, nets, exports, examine):
        for path in (
            exports.onnx("match", nets.settled(nets.Match(), seed=8)),
            exports.weights("match", nets.settled(nets.Match(), seed=8)),
        ):
            seen = examine(path, "match")
            assert set(seen.told) == {"IOC001"}
            assert seen.told["IOC001"].faults == ("stale-artifact", "output-mismatch")

    def test_one_layer_of_another_training(self, nets, exports, examine):
        model = nets.match()
        model.item.weight.data.neg_()
        found = examine(exports.traced("match", model), "match").told["IOC001"]
        assert found.faults[0] == "output-mismatch"
        assert found.location.tensor == "item.weight"

    def test_another_activation(self, nets, exports, examine):
        model = nets.match()
        model.head[1] = nn.ReLU()
        found = examine(exports.onnx("match", model), "match").told["IOC001"]
        assert "its graph is not" in found.message
        assert "output-mismatch" in found.faults

    def test_probabilities_instead_of_logits(self, nets, exports, examine):
        path = exports.onnx("match", Around(nets.match(), after=lambda y: y.softmax(-1)))
        assert "softmax" in examine(path, "match").told["IOC001"].message

    def test_eight_bits_with_too_wide_a_range(self, nets, exports, examine):
        def coarse(model):
            for value in model.parameters():
                if value.dim() > 1:
                    step = value.data.abs().max() * 40 / 127
                    value.data = (value.data / step).round() * step
            return model

        seen = examine(exports.weights("match", coarse(nets.match())), "match")
        assert seen.told["IOC001"].faults[0] == "quantization-error"

    def test_other_constants_of_preprocessing(self, nets, exports, examine):
        model = nets.camera()
        model.mean.zero_()
        found = examine(exports.traced("camera", model), "camera").told["IOC001"]
        assert "missing-preprocessing" in found.faults
        assert found.location.tensor == "mean"

    def test_other_constants_where_the_exporter_has_folded_layers(self, nets, exports, examine):
        model = nets.camera()
        model.mean.zero_()
        model.net.conv = torch.nn.utils.fusion.fuse_conv_bn_eval(model.net.conv, model.net.bn)
        model.net.bn = nn.Identity()
        found = examine(exports.traced("camera", model), "camera").told["IOC001"]
        assert "missing-preprocessing" in found.faults
        assert found.location.tensor == "mean"

    def test_two_weights_under_each_others_names(self, nets, exports, examine):
        model = nets.match()
        one, other = model.user.weight.data.clone(), model.item.weight.data.clone()
        model.user.weight.data, model.item.weight.data = other, one
        found = examine(exports.weights("match", model), "match").told["IOC001"]
        assert "holds the values of" in found.message

    def test_a_wrapped_model_has_its_weights_under_a_prefix(self, nets, exports, examine):
        class Wrapped(nn.Module):
            def __init__(self, model):
                super().__init__()
                self.inner = model

            def forward(self, user, item):
                return self.inner(user, item)

        seen = examine(exports.traced("match", Wrapped(nets.settled(nets.Match(), seed=8))), "match")
        assert seen.told["IOC001"].faults[0] == "stale-artifact"

    def test_faithful_on_the_sample_and_not_when_one_input_is_changed(self, examine):
        from doctor.evidence.artifact_run import ArtifactRun, Outcome, OutputDifference, ParityRun
        from doctor.registry import load, run_one

        apart = OutputDifference("0", "out", (5, 3), (5, 3), max_abs=0.4, largest=0.9, rms=0.2)
        levels = []
        for within, difference in ((True, OutputDifference()), (False, apart)):
            changed = Outcome(input="mask", within=within, differences=(difference,))
            run = ArtifactRun(changed=(changed,), sample=Outcome(within=True))
            found = run_one(load()["IOC001"].looks[1], {ParityRun: ParityRun(run, run.sample)}, {})
            levels.append([str(finding.level) for finding in found])
        assert levels == [[], ["error"]]

    def test_a_reference_that_is_none_is_said(self, exports, examine):
        seen = examine(exports.weights("photo"), "fresh", inputs=False)
        assert seen.told == {}

    def test_missing_weights_are_told_by_the_rule_about_keys(self, nets, exports, examine):
        from safetensors.torch import save_file

        path = exports.folder / "part.safetensors"
        save_file({k: v for k, v in nets.photo().state_dict().items() if not k.startswith("out")}, str(path))
        seen = examine(path, "photo")
        assert seen.told == {}
        assert "fresh one" in seen.findings[0].message


class TestBranches:
    @pytest.mark.parametrize("way", ["onnx", "traced"])
    def test_a_decision_that_a_trace_has_made(self, way, nets, exports, examine):
        found = examine(getattr(exports, way)("gate"), "gate").told["IOC006"]
        assert found.location.path.endswith("gate_references.py")
        assert "if x.abs().max() > 4" in Path(nets.__file__).read_text().splitlines()[found.location.line - 1]

    def test_a_length_that_a_trace_has_kept(self, nets, exports, examine):
        class Frozen(nets.Tagger):
            def forward(self, input_ids, lengths):
                h, _ = self.lstm(self.embed(input_ids))
                live = torch.arange(9) < lengths.unsqueeze(1)
                return self.out(h) * live.unsqueeze(-1)

        model = Frozen().eval()
        model.load_state_dict(nets.tagger().state_dict())
        assert "tokens" in examine(exports.onnx("tagger", model), "tagger").told["IOC006"].message

    def test_both_branches_kept_by_scripting_are_healthy(self, exports, examine):
        seen = examine(exports.scripted("gate"), "gate")
        assert seen.told == {}
        assert any(outcome.within for outcome in seen.run.branches)  # it was run on the other branch

    def test_where_instead_of_a_branch_is_healthy(self, nets, exports, examine):
        class Where(nets.Gate):
            def forward(self, x):
                return torch.where(x.abs().amax() > 4, self.large(x), self.small(x))

        model = Where().eval()
        model.load_state_dict(nets.gate().state_dict())
        assert examine(exports.onnx("gate", model), "gate").told == {}


class TestVariance:
    def test_statistics_over_the_batch(self, nets, exports, examine):
        mixed = Around(nets.match(), before=lambda u, i: ((u - u.mean(0)) / u.std(0, unbiased=False).clamp_min(0.1), i))
        assert "batch-mixing" in examine(exports.onnx("match", mixed), "match").told["IOC009"].faults

    def test_a_reference_that_mixes_its_batch_too_is_healthy(self, exports, examine):
        assert examine(exports.onnx("mixing"), "mixing").told == {}

    def test_noise_in_the_graph(self, nets, exports, examine):
        noisy = Around(nets.match(), after=lambda y: y + 0.01 * torch.randn_like(y))
        found = examine(exports.onnx("match", noisy), "match").told["IOC010"]
        assert "draws random numbers" in found.message

    def test_a_model_that_samples_by_design_is_healthy(self, exports, examine):
        assert "IOC010" not in examine(exports.onnx("sampler"), "sampler").told


class TestDevice:
    class OnGpu(nn.Module):
        def forward(self, user, item):
            if user.is_cuda:
                user = user + torch.ones(1, device="cuda:0")
            return user + item

    class Anywhere(nn.Module):
        def forward(self, user, item):
            return user + item + torch.arange(user.shape[1], device=user.device)

    def test_an_accelerator_in_the_code(self, exports, examine):
        found = examine(exports.scripted("match", self.OnGpu()), inputs=False).told["IOC011"]
        assert "cuda:0" in found.message

    def test_the_device_of_an_input_is_healthy(self, exports, examine):
        for way in (exports.scripted, exports.traced, exports.pt2):
            assert "IOC011" not in examine(way("match", self.Anywhere()), inputs=False).told

    def test_weights_saved_on_the_first_gpu_are_info_and_on_others_an_error(self):
        from doctor.evidence.artifact_contents import ArtifactContents, TensorEntry
        from doctor.registry import load, run_one

        look = load()["IOC011"].looks[1]
        levels = []
        for device in ("cpu", "cuda:0", "cuda:3", "meta"):
            contents = ArtifactContents(tensors=(TensorEntry("w", "float32", (2,), "model.pt", device=device),))
            levels.append([str(finding.level) for finding in run_one(look, {ArtifactContents: contents}, {})])
        assert levels == [[], ["info"], ["error"], ["error"]]


class TestFailing:
    def test_outputs_that_are_not_finite(self, nets, exports, examine):
        path = exports.onnx("match", Around(nets.match(), after=lambda y: y * 1e30 * 1e30))
        assert "dtype-overflow" in examine(path, "match").told["IOC012"].faults

    def test_a_file_that_the_runtime_refuses(self, examine, exports):
        import onnx
        from onnx import TensorProto, helper

        node = helper.make_node("Nowhere", ["x"], ["y"], domain="com.example")
        x, y = (helper.make_tensor_value_info(name, TensorProto.FLOAT, ["batch", 2]) for name in "xy")
        model = helper.make_model(
            helper.make_graph([node], "g", [x], [y]),
            opset_imports=[helper.make_opsetid("", 17), helper.make_opsetid("com.example", 1)],
        )
        path = exports.folder / "nowhere.onnx"
        onnx.save(model, str(path))
        assert "cannot open" in examine(path, inputs=False).told["IOC012"].message
