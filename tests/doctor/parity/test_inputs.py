"""Sample inputs from files keep their names and dtypes; what cannot be read is one clear line."""

import json

import numpy as np
import pytest
import torch

from doctor.parity import inputs
from doctor.parity.inputs import InputsError

SAMPLE = {
    "ids": torch.tensor([[1, 2, 3], [4, 5, 6]]),
    "mask": torch.tensor([[True, True, False], [True, True, True]]),
    "features": torch.tensor([[0.5, 1.5], [2.5, 3.5]]),
}


def write(path):
    if path.suffix == ".npz":
        np.savez(path, **{name: value.numpy() for name, value in SAMPLE.items()})
    elif path.suffix == ".pt":
        torch.save(SAMPLE, path)
    elif path.suffix == ".json":
        path.write_text(json.dumps({name: value.tolist() for name, value in SAMPLE.items()}))
    else:
        import pyarrow as pa
        import pyarrow.parquet as pq

        lists = {name: value.tolist() for name, value in SAMPLE.items()}
        kinds = {"ids": pa.int64(), "mask": pa.bool_(), "features": pa.float32()}
        pq.write_table(pa.table({k: pa.array(v, pa.list_(kinds[k])) for k, v in lists.items()}), path)
    return str(path)


@pytest.mark.parametrize("suffix", [".npz", ".pt", ".json", ".parquet"])
def test_names_and_dtypes_are_kept(suffix, tmp_path):
    found, named = inputs.read(write(tmp_path / f"sample{suffix}"))
    assert named
    assert list(found) == list(SAMPLE)
    for name, value in SAMPLE.items():
        assert found[name].dtype == value.dtype
        assert torch.equal(found[name], value)


def test_a_scalar_column_of_a_table_is_a_vector(tmp_path):
    import pyarrow as pa
    import pyarrow.parquet as pq

    pq.write_table(pa.table({"age": pa.array([3, 4], pa.int32())}), tmp_path / "x.parquet")
    found, _ = inputs.read(str(tmp_path / "x.parquet"))
    assert found["age"].dtype == torch.int32
    assert found["age"].shape == (2,)


def test_rows_of_json_become_columns(tmp_path):
    (tmp_path / "x.json").write_text('[{"a": 1, "b": 0.5}, {"a": 2, "b": 1.5}]')
    found, _ = inputs.read(str(tmp_path / "x.json"))
    assert torch.equal(found["a"], torch.tensor([1, 2]))
    assert torch.equal(found["b"], torch.tensor([0.5, 1.5]))


def test_arrays_saved_without_names_go_by_position(tmp_path):
    np.savez(tmp_path / "x.npz", np.zeros(3), np.ones(3))
    assert inputs.read(str(tmp_path / "x.npz"))[1] is False


@pytest.mark.parametrize(
    ("name", "content", "said"),
    [
        ("x.npz", b"", "cannot be read"),
        ("x.json", b'{"a": ', "cannot be read"),
        ("x.json", b'{"a": ["text"]}', "is no number"),
        ("x.pt", b"not a file of tensors", "cannot be read"),
        ("x.csv", b"a,b", "inputs are read from"),
    ],
)
def test_what_cannot_be_read_is_one_clear_line(name, content, said, tmp_path):
    (tmp_path / name).write_bytes(content)
    with pytest.raises(InputsError, match=said):
        inputs.read(str(tmp_path / name))


def test_pickled_objects_are_never_loaded(tmp_path):
    class Bomb:
        def __reduce__(self):
            return (exit, (3,))

    np.savez(tmp_path / "x.npz", a=np.array([Bomb()], dtype=object))
    torch.save(Bomb(), tmp_path / "x.pt")
    for name in ("x.npz", "x.pt"):
        with pytest.raises(InputsError):
            inputs.read(str(tmp_path / name))


def test_made_inputs_follow_the_signature_and_are_the_same_each_time():
    ports = [
        {"name": "ids", "dtype": "int64", "dims": ["batch", "tokens"]},
        {"name": "attention_mask", "dtype": "int64", "dims": ["batch", "tokens"]},
        {"name": "x", "dtype": "float16", "dims": [2, None, 7]},
    ]
    made, again = inputs.generated(ports, 1), inputs.generated(ports, 1)
    assert made["ids"].shape == made["attention_mask"].shape
    assert made["attention_mask"].min() == 1
    assert made["x"].dtype == torch.float16
    assert made["x"].shape[2] == 7
    assert torch.equal(made["x"], again["x"])
    assert inputs.generated([{"name": "x", "dtype": None, "dims": None}], 1) is None
