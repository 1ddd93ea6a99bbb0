"""Signatures are read from the file alone, and nothing in it is executed."""

import contextlib
import zipfile

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from doctor.interfaces import reading
from doctor.interfaces.reading import UnreadableInterface


class Net(nn.Module):
    def __init__(self):
        super().__init__()
        self.embed = nn.Embedding(20, 6)
        self.out = nn.Linear(6, 2)

    def forward(self, ids, weight):
        return {"logits": self.out(self.embed(ids).mean(1)) * weight[:, None]}


SAMPLE = (torch.zeros(3, 5, dtype=torch.int64), torch.ones(3))


@pytest.fixture(scope="module")
def files(tmp_path_factory):
    folder = tmp_path_factory.mktemp("exports")
    model = Net().eval()
    torch.onnx.export(
        model, SAMPLE, str(folder / "m.onnx"), dynamo=False, input_names=["ids", "weight"], output_names=["logits"],
        dynamic_axes={"ids": {0: "batch", 1: "tokens"}, "weight": {0: "batch"}},
    )  # fmt: skip
    torch.jit.script(model).save(str(folder / "m.pt"))
    dim = torch.export.Dim("rows")
    program = torch.export.export(model, SAMPLE, dynamic_shapes=({0: dim}, {0: dim}))
    torch.export.save(program, str(folder / "m.pt2"))
    return folder


def test_onnx_declares_names_dtypes_and_free_dimensions(files):
    contract = reading.read(files / "m.onnx", "m.onnx", "onnx")
    assert [str(port) for port in contract.inputs] == ["ids: int64[batch, tokens]", "weight: float32[batch]"]
    assert contract.named
    assert contract.opset >= 17


def test_torchscript_declares_the_names_of_forward(files):
    contract = reading.read(files / "m.pt", "m.pt", "torchscript")
    assert [port.name for port in contract.inputs] == ["ids", "weight"]


def test_torch_export_declares_dtypes_sizes_and_the_keys_of_its_outputs(files):
    contract = reading.read(files / "m.pt2", "m.pt2", "pt2")
    first, second = contract.inputs
    assert (first.name, first.dtype, first.dims[1]) == ("ids", "int64", 5)
    assert first.dims[0] == second.dims[0]
    assert isinstance(first.dims[0], str)
    assert [port.name for port in contract.outputs] == ["logits"]


def test_an_input_that_no_node_reads_is_noted(tmp_path):
    import onnx
    from onnx import TensorProto, helper

    x, mask, y = (helper.make_tensor_value_info(name, TensorProto.FLOAT, ["n", 2]) for name in ("x", "mask", "y"))
    graph = helper.make_graph([helper.make_node("Relu", ["x"], ["y"])], "g", [x, mask], [y])
    onnx.save(helper.make_model(graph), str(tmp_path / "m.onnx"))
    contract = reading.read(tmp_path / "m.onnx", "m.onnx", "onnx")
    assert [port.used for port in contract.inputs] == [True, False]


def test_a_dropout_in_a_branch_is_seen(tmp_path):
    import numpy as np
    import onnx
    from onnx import TensorProto, helper, numpy_helper

    initial = [numpy_helper.from_array(np.array(True), "on"), numpy_helper.from_array(np.float32(0.5), "rate")]
    y = helper.make_tensor_value_info("y", TensorProto.FLOAT, None)
    branch = helper.make_graph([helper.make_node("Dropout", ["x", "rate", "on"], ["y"])], "b", [], [y])
    node = helper.make_node("If", ["c"], ["z"], then_branch=branch, else_branch=branch)
    inputs = [helper.make_tensor_value_info("x", TensorProto.FLOAT, [2]), helper.make_tensor_value_info("c", 9, [])]
    z = helper.make_tensor_value_info("z", TensorProto.FLOAT, None)
    onnx.save(helper.make_model(helper.make_graph([node], "g", inputs, [z], initial)), str(tmp_path / "m.onnx"))
    assert len(reading.read(tmp_path / "m.onnx", "m.onnx", "onnx").of("training")) == 2


@settings(max_examples=60, deadline=None)
@given(data=st.data())
@pytest.mark.parametrize("name", ["m.onnx", "m.pt", "m.pt2"])
def test_damaged_files_give_a_reason_and_no_crash(name, files, data, tmp_path_factory):
    content = bytearray((files / name).read_bytes())
    for _ in range(data.draw(st.integers(1, 8))):
        content[data.draw(st.integers(0, len(content) - 1))] = data.draw(st.integers(0, 255))
    path = tmp_path_factory.mktemp("damaged") / name
    path.write_bytes(content[: data.draw(st.integers(0, len(content)))])
    kind = {"m.onnx": "onnx", "m.pt": "torchscript", "m.pt2": "pt2"}[name]
    with contextlib.suppress(UnreadableInterface):  # anything else is a crash
        reading.read(path, name, kind)


def test_a_hostile_pickle_in_a_scripted_file_is_not_executed(files, tmp_path):
    import pickle

    class Bomb:
        def __reduce__(self):
            return (open, (str(tmp_path / "executed"), "w"))

    with zipfile.ZipFile(files / "m.pt") as old, zipfile.ZipFile(tmp_path / "m.pt", "w") as new:
        for member in old.infolist():
            bomb = member.filename.endswith("/data.pkl")
            new.writestr(member.filename, pickle.dumps(Bomb(), protocol=2) if bomb else old.read(member))
    for attributes in (True, False):
        reading.read(tmp_path / "m.pt", "m.pt", "torchscript", attributes=attributes)
    assert not (tmp_path / "executed").exists()


def test_large_weights_are_not_loaded_to_read_a_signature(tmp_path):
    import numpy as np
    import onnx
    from onnx import TensorProto, helper, numpy_helper

    from doctor.interfaces import slim

    big = numpy_helper.from_array(np.ones((4, 200_000), np.float32), "w")
    small = numpy_helper.from_array(np.array([7, -1]), "shape")
    x = helper.make_tensor_value_info("x", TensorProto.FLOAT, ["n", 4])
    y = helper.make_tensor_value_info("y", TensorProto.FLOAT, ["n", 200_000])
    graph = helper.make_graph([helper.make_node("MatMul", ["x", "w"], ["y"])], "g", [x], [y], [big, small])
    onnx.save(helper.make_model(graph), str(tmp_path / "m.onnx"))
    content = slim.without_weights(tmp_path / "m.onnx")
    assert len(content) < 1000
    weights = {entry.name: entry for entry in onnx.ModelProto.FromString(content).graph.initializer}
    assert list(weights["w"].dims) == [4, 200_000]
    assert numpy_helper.to_array(weights["shape"]).tolist() == [7, -1]
    contract = reading.read(tmp_path / "m.onnx", "m.onnx", "onnx")
    assert [str(port) for port in contract.inputs] == ["x: float32[n, 4]"]
