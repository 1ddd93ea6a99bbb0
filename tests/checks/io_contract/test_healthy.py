"""Healthy exports of several domains, by all ways of export and in all precisions: no rule says anything."""

import pytest
import torch

WAYS = ["onnx", "traced", "pt2", "weights"]


@pytest.mark.parametrize("name", ["photo", "camera", "tagger", "match"])
@pytest.mark.parametrize("way", WAYS)
def test_a_faithful_export_is_silent(name, way, exports, examine):
    seen = examine(getattr(exports, way)(name), name)
    assert seen.told == {}
    assert seen.parity.faithful


@pytest.mark.parametrize("name", ["photo", "tagger", "match", "gate"])
def test_a_scripted_module_is_silent(name, exports, examine):
    seen = examine(exports.scripted(name), name)
    assert seen.told == {}
    assert seen.parity.faithful


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
@pytest.mark.parametrize("name", ["photo", "tagger", "match"])
def test_weights_in_half_precision_are_silent(name, dtype, exports, examine):
    seen = examine(exports.weights(name, dtype=dtype), name)
    assert seen.told == {}
    assert seen.run.tolerance.precision == str(dtype).removeprefix("torch.")


def test_a_graph_in_float16_is_silent_although_clients_send_float32(nets, exports, examine):
    half = {key: value.half() for key, value in nets.SAMPLES["match"]().items()}
    seen = examine(exports.onnx("match", nets.match().half(), half), "match")
    assert seen.told == {}
    assert {finding.rule for finding in seen.findings} == {"IOC004"}  # as info


@pytest.mark.parametrize("name", ["photo", "tagger", "match"])
def test_dynamic_quantisation_by_onnx_runtime_is_silent(name, exports, examine):
    from onnxruntime.quantization import QuantType, quantize_dynamic

    path = exports.onnx(name)
    small = path.with_name(f"{path.stem}-8bit.onnx")
    quantize_dynamic(str(path), str(small), weight_type=QuantType.QInt8)
    seen = examine(small, name)
    assert seen.told == {}
    assert seen.run.tolerance.precision == "int8"


@pytest.mark.parametrize("name", ["tagger", "match"])
def test_dynamic_quantisation_by_pytorch_is_silent(name, nets, exports, examine):
    kinds = {torch.nn.Linear, torch.nn.LSTM}
    model = torch.ao.quantization.quantize_dynamic(getattr(nets, name)(), kinds, dtype=torch.qint8)
    assert examine(exports.traced(name, model), name).told == {}


def test_an_export_by_dynamo_is_silent(nets, exports, examine):
    path = exports.folder / "dynamo.onnx"
    sample = nets.SAMPLES["match"]()
    shapes = tuple({0: torch.export.Dim.AUTO} for _ in sample)
    torch.onnx.export(
        nets.match(), tuple(sample.values()), str(path), dynamo=True, input_names=list(sample), output_names=["out"],
        dynamic_shapes=shapes, verbose=False,
    )  # fmt: skip
    assert examine(path, "match").told == {}


def test_time_first_with_a_free_batch_on_the_second_axis_is_silent(exports, examine):
    assert examine(exports.onnx("track"), "track").told == {}
    assert examine(exports.onnx("track", free={"steps": {1: "columns"}, "out": {1: "columns"}}), "track").told == {}


def test_a_model_that_samples_on_purpose_is_silent(exports, examine):
    assert examine(exports.onnx("sampler"), "sampler").told == {}
    assert examine(exports.traced("sampler"), "sampler").told == {}


def test_a_reference_without_settled_weights_is_no_reason_to_report(exports, examine):
    own = examine(exports.onnx("photo"), "fresh", inputs=False)
    assert own.told == {}
    traced = examine(exports.traced("photo"), "fresh", inputs=False)
    assert traced.told == {}


def test_without_reference_and_inputs_the_file_alone_is_silent(exports, examine):
    for path in (exports.onnx("photo"), exports.onnx("tagger"), exports.pt2("match"), exports.traced("photo")):
        seen = examine(path, inputs=False)
        assert seen.told == {}
        assert "no reference model" in str(seen.parity)
