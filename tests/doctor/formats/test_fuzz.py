"""Mutated files of every format: no crash, no execution, no hang, whatever the bytes.

`DOCTOR_FUZZ=5000 pytest tests/doctor/formats/test_fuzz.py` tries as many files of each format (the slow tier).
"""

import importlib.util
import io
import json
import os
import time
from pathlib import Path

import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from safetensors.torch import save

from doctor.errors import DoctorError
from doctor.gate import gate

FIXTURES = Path(__file__).resolve().parents[3] / "fixtures"
EXAMPLES = int(os.environ.get("DOCTOR_FUZZ", "40"))
MARKER = Path("/tmp") / f"doctor-fuzz-executed-{os.getpid()}"


def _saved(write):
    blob = io.BytesIO()
    write(blob)
    return blob.getvalue()


def _seeds():
    torch.manual_seed(0)
    net = torch.nn.Sequential(torch.nn.Linear(6, 5), torch.nn.BatchNorm1d(5), torch.nn.Linear(5, 3)).eval()
    state = net.state_dict()
    spec = importlib.util.spec_from_file_location("hostile", FIXTURES / "artifacts" / "hostile.py")
    hostile = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(hostile)
    sick = dict(hostile.variants(MARKER))
    return {
        "a.safetensors": save({key: value.contiguous() for key, value in state.items()}),
        "a.pt": _saved(lambda blob: torch.save({"model": state, "epoch": 1}, blob)),
        "whole.pt": _saved(lambda blob: torch.save(net, blob)),
        "legacy.pt": _saved(lambda blob: torch.save(state, blob, _use_new_zipfile_serialization=False)),
        "script.pt": _saved(lambda blob: torch.jit.save(torch.jit.script(net), blob)),
        "a.pt2": _saved(lambda blob: torch.export.save(torch.export.export(net, (torch.randn(2, 6),)), blob)),
        "a.onnx": _saved(lambda blob: torch.onnx.export(net, (torch.randn(2, 6),), blob, dynamo=False)),
        "sick.pkl": sick["stack_global_by_memo.pt"],
        "old_tar.pt": sick["old_tar.pt"],
        "proto0.pkl": sick["builtins_exec_protocol0.pkl"],
        "array.npy": sick["object_array.npy"],
        "model.safetensors.index.json": json.dumps(
            {"metadata": {"total_size": 8}, "weight_map": {"a": "model-00001-of-00001.safetensors"}}
        ).encode(),
    }


SEEDS = _seeds()
EXTREMES = [
    b"\0" * 8,
    b"\xff" * 8,
    b"\xff\xff\xff\x7f",
    b"\x80\x02",
    b"\x80\x05",
    b"cos\nsystem\n",
    b"PK\x05\x06",
    b"PK\x01\x02",
    b"{",
    b"..",
    b"\xff" * 10,
]


@st.composite
def mutated(draw, content):
    """Some bytes changed, inserted, removed, repeated, cut off, or replaced by numbers at their limits."""
    data = bytearray(content)
    for _ in range(draw(st.integers(1, 4))):
        at = draw(st.integers(0, max(0, len(data) - 1)))
        kind = draw(st.integers(0, 6))
        if kind == 0 and data:
            data[at] = draw(st.integers(0, 255))
        elif kind == 1:
            data[at:at] = draw(st.binary(max_size=12))
        elif kind == 2:
            del data[at : at + draw(st.integers(1, 40))]
        elif kind == 3:
            piece = draw(st.sampled_from(EXTREMES))
            data[at : at + len(piece)] = piece
        elif kind == 4:
            del data[at:]
        elif kind == 5:
            data[at:at] = data[at : at + draw(st.integers(1, 200))]
        elif data:
            data[at] ^= 1 << draw(st.integers(0, 7))
    return bytes(data)


@pytest.mark.parametrize("name", SEEDS)
def test_no_mutation_crashes_executes_or_hangs(name, tmp_path):
    path = tmp_path / name

    @settings(
        max_examples=EXAMPLES,
        deadline=None,
        database=None,
        suppress_health_check=list(HealthCheck),
        derandomize=EXAMPLES <= 40,
    )
    @given(mutated(SEEDS[name]))
    def judge(content):
        path.write_bytes(content)
        started = time.process_time()
        try:
            report = gate(str(path))
        except DoctorError as failure:
            if "please report" in str(failure):
                raise
            return
        assert not [skip for skip in report.skipped if "crashed" in skip.reason], report.skipped
        assert not [finding for finding in report.findings if "please report" in finding.message], report.findings
        assert time.process_time() - started < 10

    judge()
    assert not MARKER.exists()


@settings(max_examples=EXAMPLES * 5, deadline=None, derandomize=EXAMPLES <= 40)
@given(st.binary(max_size=300))
def test_any_bytes_are_followed_as_a_pickle_to_an_end(content):
    from doctor.formats.pickles import follow

    walk = follow(content)
    assert walk.end <= len(content)
    assert walk.fault is not None or content[walk.end - 1 : walk.end] == b"."


PICKLED = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats(allow_nan=False)
    | st.text(max_size=20)
    | st.binary(max_size=20),
    lambda inner: (
        st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=5), inner, max_size=4) | st.tuples(inner, inner)
    ),
    max_leaves=20,
)


@settings(max_examples=EXAMPLES * 5, deadline=None, derandomize=EXAMPLES <= 40)
@given(PICKLED, st.integers(0, 5))
def test_the_machine_follows_what_pickle_writes_to_the_same_values(value, protocol):
    import pickle

    from doctor.formats.pickle_machine import Call, Table
    from doctor.formats.pickles import follow

    def plain(found):
        if isinstance(found, Table):
            return {key: plain(inner) for key, inner in found.items.items()}
        if isinstance(found, Call):  # protocols below 3 write bytes as a call of _codecs.encode
            return found.arguments[0].encode("latin1") if found.arguments else b""
        if isinstance(found, list | tuple):
            return type(found)(plain(inner) for inner in found)
        return found

    walk = follow(pickle.dumps(value, protocol))
    assert walk.fault is None
    assert plain(walk.value) == value


@pytest.mark.parametrize(
    "content",
    [
        b"\x80\x02}" + b")" + b"\x85" * 2_000_000 + b"K\x01s.",  # a key of nested tuples
        b"\x80\x02" + b"(" * 2_000_000 + b".",
        b"\x80\x02]" + b"q\x00h\x00a" * 300_000 + b".",  # a list that holds itself
        b"\x80\x02N" + b"2" * 3_000_000 + b".",
        b"I" + b"9" * 3_000_000 + b"\n.",
        b"\x80\x02\x8b\xff\xff\xff\x7f" + bytes(100),
        b"\x80\x02r\xff\xff\xff\xffN.",
    ],
    ids=["tuples", "marks", "cycle", "copies", "digits", "long", "memo"],
)
def test_streams_made_to_exhaust_the_reader(content, tmp_path):
    (tmp_path / "a.pkl").write_bytes(content)
    started = time.process_time()
    report = gate(str(tmp_path / "a.pkl"))
    assert not [finding for finding in report.findings if "please report" in finding.message], report.findings
    assert time.process_time() - started < 30


def test_an_expanded_tensor_is_not_unrolled(tmp_path):
    torch.save({"a": torch.zeros(1).expand(10**6, 10**6), "b": torch.randn(4)}, tmp_path / "a.pt")
    assert "2 tensors" in gate(str(tmp_path / "a.pt")).subject.ending


def test_a_shape_of_a_million_sides_is_no_shape(tmp_path):
    sides = b"(" + (b"\x8a\x1f" + b"\xff" * 30 + b"\x7f") * 100_000 + b"t"
    storage = b"((X\x07\0\0\0storagectorch\nFloatStorage\nX\x01\0\0\x000X\x03\0\0\0cpuK\x01tQ"
    stream = b"\x80\x02}X\x01\0\0\0actorch._utils\n_rebuild_tensor_v2\n" + storage + b"K\0" + sides * 2 + b"\x89NtRs."
    (tmp_path / "a.pkl").write_bytes(stream)
    started = time.process_time()
    gate(str(tmp_path / "a.pkl"))
    assert time.process_time() - started < 20
