"""Damaged files, paths that lead out, versions, shards, and input that is no artifact at all."""

import io
import json
import os
import struct
import tarfile
import time
import zipfile
from pathlib import Path

import onnx
import pytest
import torch
from onnx import TensorProto, helper
from safetensors.torch import save_file

from doctor.errors import DoctorError
from doctor.findings import Severity


def serious(report):
    return [finding for finding in report.findings if finding.level is not Severity.INFO]


def labels(report):
    return {label for finding in serious(report) for label in finding.faults}


def safetensors(header, body=b"", length=None):
    text = header if isinstance(header, bytes) else json.dumps(header).encode()
    return struct.pack("<Q", len(text) if length is None else length) + text + body


def entry(begin, end, shape=None, dtype="F32"):
    return {"dtype": dtype, "shape": [(end - begin) // 4] if shape is None else shape, "data_offsets": [begin, end]}


class TestSafetensors:
    @pytest.mark.parametrize(
        ("content", "label"),
        [
            (b"\x01\x02\x03", "truncated-file"),
            (safetensors({"a": entry(0, 16)}, b"\0" * 8), "truncated-file"),
            (safetensors({"a": entry(0, 16), "b": entry(8, 24)}, b"\0" * 24), "malformed-header"),
            (safetensors({"a": entry(0, 16), "b": entry(24, 32)}, b"\0" * 32), "malformed-header"),
            (safetensors({"a": entry(0, 16)}, b"\0" * 32), "malformed-header"),
            (safetensors({"a": entry(0, 16, [5])}, b"\0" * 16), "malformed-header"),
            (safetensors({"a": entry(0, 16, dtype="F31")}, b"\0" * 16), "malformed-header"),
            (safetensors({"a": entry(0, 16, [-1, 4])}, b"\0" * 16), "malformed-header"),
            (safetensors({"a": entry(0, 16, [2**40, 2**40])}, b"\0" * 16), "malformed-header"),
            (safetensors({"a": {**entry(0, 16), "data_offsets": [16, 0]}}, b"\0" * 16), "malformed-header"),
            (safetensors(b'{"a": {"dtype": "F32"}}'), "malformed-header"),
            (safetensors(b"{" * 5000), "malformed-header"),
            (safetensors(b'{"a": [1, 2'), "malformed-header"),
            (safetensors({}, length=2**62), "malformed-header"),
            (safetensors({}, length=90_000_000), "truncated-file"),
            (safetensors({"__metadata__": {"a": 1}}), "malformed-header"),
            (
                safetensors(b'{"a":%s,"a":%s}' % ((json.dumps(entry(0, 16)).encode(),) * 2), b"\0" * 16),
                "malformed-header",
            ),
        ],
    )
    def test_what_breaks_the_format_is_named(self, content, label, tmp_path, judge):
        (tmp_path / "a.safetensors").write_bytes(content)
        assert label in labels(judge(tmp_path / "a.safetensors"))

    def test_empty_tensors_scalars_and_metadata_are_silent(self, tmp_path, judge):
        state = {"none": torch.zeros(0, 4), "one": torch.tensor(1.5), "flag": torch.tensor([True, False])}
        save_file(state, tmp_path / "a.safetensors", metadata={"format": "pt"})
        assert not judge(tmp_path / "a.safetensors").findings


class TestArchives:
    def saved(self, net, folder):
        torch.save(net.state_dict(), folder / "net.pt")
        return bytearray((folder / "net.pt").read_bytes())

    @pytest.mark.parametrize("share", [0.05, 0.5, 0.9, 0.999])
    def test_a_file_cut_off_is_truncated(self, share, net, tmp_path, judge):
        whole = self.saved(net, tmp_path)
        (tmp_path / "cut.pt").write_bytes(whole[: int(len(whole) * share)])
        assert labels(judge(tmp_path / "cut.pt")) == {"truncated-file"}

    def test_one_flipped_bit_in_a_weight_is_seen(self, net, tmp_path, judge):
        whole = self.saved(net, tmp_path)
        with zipfile.ZipFile(tmp_path / "net.pt") as archive:
            at = archive.getinfo("net/data/0").header_offset
        whole[at + 200] ^= 1
        (tmp_path / "net.pt").write_bytes(whole)
        (finding,) = serious(judge(tmp_path / "net.pt"))
        assert finding.faults == ("corrupt-file",)
        assert "net/data/0" in finding.location.tensor

    def test_an_archive_written_without_checksums_is_silent(self, net, tmp_path, judge):
        torch.serialization.set_crc32_options(False)
        try:
            torch.save(net.state_dict(), tmp_path / "net.pt")
        finally:
            torch.serialization.set_crc32_options(True)
        assert not judge(tmp_path / "net.pt").findings

    def test_a_legacy_file_cut_off_is_truncated(self, net, tmp_path, judge):
        torch.save(net.state_dict(), tmp_path / "a.pt", _use_new_zipfile_serialization=False)
        whole = (tmp_path / "a.pt").read_bytes()
        for share in (0.1, 0.6, 0.98):
            (tmp_path / "a.pt").write_bytes(whole[: int(len(whole) * share)])
            assert labels(judge(tmp_path / "a.pt")) == {"truncated-file"}

    def test_a_plain_pickle_cut_off_is_truncated_and_not_unsafe(self, tmp_path, judge):
        import pickle

        whole = pickle.dumps({"rate": 0.1, "names": ["a", "b"] * 50}, protocol=2)
        for share in (0.3, 0.9):
            (tmp_path / "a.pkl").write_bytes(whole[: int(len(whole) * share)])
            assert labels(judge(tmp_path / "a.pkl")) == {"truncated-file"}

    def test_scripts_and_exported_programs_cut_off_are_truncated_and_not_unsafe(self, net, tmp_path, judge):
        torch.jit.script(net).save(tmp_path / "a.pt")
        torch.save(net, tmp_path / "b.pt")
        torch.export.save(torch.export.export(net, (torch.randn(2, 20),)), tmp_path / "c.pt2")
        save_file(net.state_dict(), tmp_path / "d.safetensors")
        for name in ("a.pt", "b.pt", "c.pt2", "d.safetensors"):
            whole = (tmp_path / name).read_bytes()
            for share in (0.03, 0.6, 0.97):
                (tmp_path / name).write_bytes(whole[: int(len(whole) * share)])
                assert labels(judge(tmp_path / name)) == {"truncated-file"}, (name, share)

    def test_a_program_that_was_cut_off_before_it_was_packed_is_truncated(self, net, tmp_path, judge):
        """The checksums are right: only the program itself tells."""
        torch.export.save(torch.export.export(net, (torch.randn(2, 20),)), tmp_path / "whole.pt2")
        for share, label in ((0.6, {"truncated-file", "corrupt-file"}), (1.0, set())):
            with zipfile.ZipFile(tmp_path / "whole.pt2") as source, zipfile.ZipFile(tmp_path / "b.pt2", "w") as target:
                for member in source.infolist():
                    content = source.read(member)
                    cut = share if member.filename.endswith("models/model.json") else 1.0
                    target.writestr(member.filename, content[: int(len(content) * cut)])
            assert labels(judge(tmp_path / "b.pt2")) == label

    def test_members_that_lead_out_are_named(self, net, tmp_path, judge):
        torch.save(net.state_dict(), tmp_path / "net.pt")
        with zipfile.ZipFile(tmp_path / "net.pt", "a") as archive:
            archive.writestr("net/../../evil.sh", "echo")
        assert "path-traversal" in labels(judge(tmp_path / "net.pt"))
        with tarfile.open(tmp_path / "a.tar", "w") as archive:
            link = tarfile.TarInfo("weights")
            link.type, link.linkname = tarfile.SYMTYPE, "/etc/passwd"
            archive.addfile(link)
        (tmp_path / "a.tar").rename(tmp_path / "a.pt")
        assert "path-traversal" in labels(judge(tmp_path / "a.pt"))

    def test_a_bomb_is_not_unpacked(self, tmp_path, judge):
        with zipfile.ZipFile(tmp_path / "a.pt", "w", zipfile.ZIP_DEFLATED) as archive:
            archive.writestr("a/data.pkl", bytes(400 << 20))
        started = time.monotonic()
        assert "corrupt-file" in labels(judge(tmp_path / "a.pt"))
        assert time.monotonic() - started < 5


def model(tensors=(), nodes=(), opset=18, **options):
    inputs = [helper.make_tensor_value_info("x", TensorProto.FLOAT, [None, 4])]
    outputs = [helper.make_tensor_value_info("y", TensorProto.FLOAT, None)]
    nodes = nodes or [helper.make_node("Relu", ["x"], ["y"])]
    graph = helper.make_graph(list(nodes), "g", inputs, outputs, list(tensors))
    imports = [helper.make_opsetid("", opset), *[helper.make_opsetid(d, 1) for d in {n.domain for n in nodes} if d]]
    return helper.make_model(graph, opset_imports=imports, ir_version=options.pop("ir_version", 10), **options)


def external(location, offset=0, length=64, shape=(4, 4)):
    tensor = TensorProto(name="w", data_type=TensorProto.FLOAT, dims=shape, data_location=TensorProto.EXTERNAL)
    for key, value in (("location", location), ("offset", str(offset)), ("length", str(length))):
        tensor.external_data.add(key=key, value=value)
    return tensor


class TestOnnx:
    def test_external_data_outside_are_named(self, tmp_path, judge):
        for location in ("../secret.bin", "/etc/passwd", "a/../../b"):
            onnx.save(model([external(location)]), tmp_path / "m.onnx")
            assert "path-traversal" in labels(judge(tmp_path / "m.onnx"))
        (tmp_path / "inner").mkdir()
        (tmp_path / "secret.bin").write_bytes(b"\0" * 64)
        os.symlink(tmp_path / "secret.bin", tmp_path / "inner" / "w.bin")
        onnx.save(model([external("w.bin")]), tmp_path / "inner" / "m.onnx")
        assert "path-traversal" in labels(judge(tmp_path / "inner" / "m.onnx"))

    def test_external_data_that_are_short_or_missing(self, tmp_path, judge):
        onnx.save(model([external("w.bin")]), tmp_path / "m.onnx")
        assert "truncated-file" in labels(judge(tmp_path / "m.onnx"))
        (tmp_path / "w.bin").write_bytes(b"\0" * 40)
        assert "truncated-file" in labels(judge(tmp_path / "m.onnx"))
        (tmp_path / "w.bin").write_bytes(torch.randn(16).numpy().tobytes())
        report = judge(tmp_path / "m.onnx")
        assert not serious(report)
        assert "2 files, 1 tensors" in report.subject.ending

    def test_a_model_cut_off_is_truncated(self, net, tmp_path, judge):
        free = {"input_names": ["x"], "dynamic_axes": {"x": {0: "batch"}}}
        torch.onnx.export(net, (torch.randn(2, 20),), str(tmp_path / "m.onnx"), dynamo=False, **free)
        whole = (tmp_path / "m.onnx").read_bytes()
        assert not judge(tmp_path / "m.onnx").findings
        for share in (0.02, 0.3, 0.7, 0.99):
            (tmp_path / "m.onnx").write_bytes(whole[: int(len(whole) * share)])
            assert labels(judge(tmp_path / "m.onnx")) == {"truncated-file"}

    def test_a_wrong_size_is_corrupt(self, tmp_path, judge):
        tensor = helper.make_tensor("w", TensorProto.FLOAT, [4, 4], b"\0" * 64, raw=True)
        tensor.raw_data = b"\0" * 60
        onnx.save(model([tensor]), tmp_path / "m.onnx")
        assert "corrupt-file" in labels(judge(tmp_path / "m.onnx"))

    def test_operators_of_ones_own_and_those_of_the_model(self, tmp_path, judge):
        node = helper.make_node("Magic", ["x"], ["y"], domain="com.shop")
        onnx.save(model(nodes=[node]), tmp_path / "m.onnx")
        assert "unsafe-pickle" in labels(judge(tmp_path / "m.onnx"))
        function = helper.make_function(
            "com.shop", "Magic", ["a"], ["b"], [helper.make_node("Relu", ["a"], ["b"])], [helper.make_opsetid("", 18)]
        )
        onnx.save(model(nodes=[node], functions=[function]), tmp_path / "m.onnx")
        assert not serious(judge(tmp_path / "m.onnx"))

    def test_a_newer_opset_than_the_runtimes(self, tmp_path, judge):
        onnx.save(model(opset=21), tmp_path / "m.onnx")
        assert not serious(judge(tmp_path / "m.onnx"))
        (finding,) = serious(judge(tmp_path / "m.onnx", opset=17))
        assert (finding.rule, finding.measured["opset"].value) == ("FIL004", 21)


@pytest.fixture
def sharded(tmp_path):
    """A folder of two shards, an index and a configuration."""
    folder = tmp_path / "model"
    folder.mkdir()
    torch.manual_seed(0)
    parts = [{f"layer{i}.weight": torch.randn(8, 8), f"layer{i}.bias": torch.randn(8)} for i in range(2)]
    names = [f"model-0000{i + 1}-of-00002.safetensors" for i in range(2)]
    for part, name in zip(parts, names, strict=True):
        save_file(part, folder / name)
    table = {key: name for part, name in zip(parts, names, strict=True) for key in part}
    size = sum(value.numel() * 4 for part in parts for value in part.values())
    index = {"metadata": {"total_size": size}, "weight_map": table}
    (folder / "model.safetensors.index.json").write_text(json.dumps(index))
    (folder / "config.json").write_text(json.dumps({"model_type": "bert", "architectures": ["BertModel"]}))
    return folder


class TestFolders:
    def test_whole_folders_and_indexes_are_silent(self, sharded, judge):
        for target in (sharded, sharded / "model.safetensors.index.json"):
            report = judge(target)
            assert not report.findings
            assert "4 tensors" in report.subject.ending

    def test_a_missing_shard_is_named(self, sharded, judge):
        (sharded / "model-00002-of-00002.safetensors").unlink()
        for target in (sharded, sharded / "model.safetensors.index.json"):
            (finding,) = serious(judge(target))
            assert finding.rule == "FIL005"
            assert "2 of 4 tensors" in finding.message

    def test_an_index_that_names_what_is_not_there(self, sharded, judge):
        path = sharded / "model.safetensors.index.json"
        index = json.loads(path.read_text())
        index["weight_map"]["layer9.weight"] = "model-00001-of-00002.safetensors"
        path.write_text(json.dumps(index))
        (finding,) = serious(judge(sharded))
        assert finding.location.tensor == "layer9.weight"

    @pytest.mark.parametrize(
        ("stated", "level"),
        [(0.5, "info"), (2.0, "info"), (1.005, None), (0.01, "warning"), ("all", "warning"), (float("nan"), "warning")],
    )
    def test_a_size_that_the_index_states_is_doubted_where_it_is_far_off(self, stated, level, sharded, judge):
        path = sharded / "model.safetensors.index.json"
        index = json.loads(path.read_text())
        known = index["metadata"]["total_size"]
        index["metadata"]["total_size"] = stated if isinstance(stated, str) else known * stated
        path.write_text(json.dumps(index))
        for target in (sharded, path):
            found = judge(target).findings
            assert [(finding.rule, str(finding.level)) for finding in found] == ([("FIL005", level)] if level else [])

    def test_an_index_that_leads_out(self, sharded, judge):
        path = sharded / "model.safetensors.index.json"
        index = json.loads(path.read_text())
        index["weight_map"]["layer9.weight"] = "../../other.safetensors"
        path.write_text(json.dumps(index))
        assert "path-traversal" in labels(judge(path))

    def test_a_shard_of_an_older_export_is_a_duplicate(self, sharded, judge):
        state = {f"layer{i}.weight": torch.randn(8, 8) for i in range(2)}
        save_file(state, sharded / "model.safetensors")
        assert "duplicate-tensors" in labels(judge(sharded))

    def test_code_that_the_configuration_asks_for(self, sharded, judge):
        (sharded / "config.json").write_text(json.dumps({"auto_map": {"AutoModel": "modeling_x.XModel"}}))
        (finding,) = serious(judge(sharded))
        assert finding.rule == "FIL002"
        assert "modeling_x.XModel" in finding.message

    def test_links_out_are_named_and_those_of_the_hubs_cache_are_not(self, sharded, tmp_path, judge):
        (tmp_path / "secret").write_text("key")
        os.symlink(tmp_path / "secret", sharded / "tokenizer.json")
        assert "path-traversal" in labels(judge(sharded))
        cache = tmp_path / "models--x"
        (cache / "blobs").mkdir(parents=True)
        (cache / "snapshots").mkdir()
        (sharded / "tokenizer.json").unlink()
        for path in list(sharded.iterdir()):
            path.rename(cache / "blobs" / path.name)
        snapshot = cache / "snapshots" / "abc"
        snapshot.mkdir()
        for path in (cache / "blobs").iterdir():
            os.symlink(Path("../../blobs") / path.name, snapshot / path.name)
        assert not serious(judge(snapshot))


class TestConfiguration:
    def folder(self, tmp_path, **changes):
        state = {"model.embed_tokens.weight": torch.randn(50, 16)}
        state |= {f"model.layers.{i}.mlp.weight": torch.randn(16, 16) for i in range(3)}
        save_file(state, tmp_path / "model.safetensors")
        config = {"vocab_size": 50, "hidden_size": 16, "num_hidden_layers": 3, **changes}
        (tmp_path / "config.json").write_text(json.dumps(config))
        return tmp_path

    def test_what_the_configuration_states_is_silent(self, tmp_path, judge):
        assert not judge(self.folder(tmp_path)).findings
        assert not judge(self.folder(tmp_path, vocab_size=48)).findings, "rows are padded"

    def test_a_table_under_a_name_of_ones_own_must_have_a_row_for_each_token(self, tmp_path, judge):
        state = {"notes.table": torch.randn(50, 16), "out.weight": torch.randn(16, 16)}
        state |= {f"blocks.{i}.up.weight": torch.randn(64, 16) for i in range(2)}
        save_file(state, tmp_path / "model.safetensors")
        for vocabulary, found in ((50, set()), (45, set()), (60, {"shape-mismatch", "stale-artifact"})):
            (tmp_path / "config.json").write_text(json.dumps({"vocab_size": vocabulary, "hidden_size": 16}))
            assert labels(judge(tmp_path)) == found

    def test_a_model_without_a_table_of_the_stated_width_is_silent(self, tmp_path, judge):
        state = {"patch.weight": torch.randn(8, 3, 4, 4), "up.weight": torch.randn(8, 4)}
        save_file(state, tmp_path / "model.safetensors")
        (tmp_path / "config.json").write_text(json.dumps({"vocab_size": 99, "hidden_size": 16}))
        assert not serious(judge(tmp_path))

    @pytest.mark.parametrize(
        ("changes", "label"),
        [
            ({"vocab_size": 60}, "shape-mismatch"),
            ({"hidden_size": 32}, "shape-mismatch"),
            ({"num_hidden_layers": 4}, "stale-artifact"),
        ],
    )
    def test_another_configuration_is_drift(self, changes, label, tmp_path, judge):
        assert label in labels(judge(self.folder(tmp_path, **changes)))

    @pytest.mark.parametrize(
        ("key", "name", "rows"),
        [
            ("max_position_embeddings", "model.embed_positions.weight", 34),
            ("type_vocab_size", "model.token_type_embeddings.weight", 2),
            ("intermediate_size", "model.layers.0.mlp.up_proj.weight", 64),
        ],
    )
    def test_a_table_must_have_the_rows_that_are_stated_for_it(self, key, name, rows, tmp_path, judge):
        state = {"model.embed_tokens.weight": torch.randn(50, 16), name: torch.randn(rows, 16)}
        save_file(state, tmp_path / "model.safetensors")
        for stated, found in ((rows, set()), (rows - 1, set()), (2 * rows, {"shape-mismatch", "stale-artifact"})):
            config = {"vocab_size": 50, "hidden_size": 16, key: stated}
            (tmp_path / "config.json").write_text(json.dumps(config))
            assert labels(judge(tmp_path)) == found, stated


class TestBadInput:
    @pytest.mark.parametrize("suffix", [".pt", ".onnx", ".safetensors", ".pt2", ".bin"])
    def test_an_empty_file_is_truncated(self, suffix, tmp_path, judge):
        (tmp_path / f"a{suffix}").write_bytes(b"")
        report = judge(tmp_path / f"a{suffix}")
        assert labels(report) == {"truncated-file"}

    @pytest.mark.parametrize("suffix", [".pt", ".onnx", ".safetensors", ".pt2"])
    @pytest.mark.parametrize(
        "content",
        [
            b"this is a text, and no model\n" * 20,
            bytes(3000),
            b"version https://git-lfs.github.com/spec/v1\noid sha256:0",
        ],
    )
    def test_another_content_than_the_name_says(self, suffix, content, tmp_path, judge):
        (tmp_path / f"a{suffix}").write_bytes(content)
        assert labels(judge(tmp_path / f"a{suffix}")) & {"corrupt-file", "truncated-file", "malformed-header"}

    def test_what_is_no_artifact_is_one_line(self, tmp_path, judge):
        (tmp_path / "notes.txt").write_text("hello")
        (tmp_path / "empty").mkdir()
        os.symlink(tmp_path / "gone", tmp_path / "link.pt")
        os.mkfifo(tmp_path / "pipe.pt")
        for name, words in (
            ("notes.txt", "is text"),
            ("empty", "holds no model"),
            ("link.pt", "does not exist"),
            ("nothing.pt", "no file"),
            ("pipe.pt", "neither a regular file"),
        ):
            with pytest.raises(DoctorError, match=words):
                judge(tmp_path / name)

    @pytest.mark.skipif(os.geteuid() == 0, reason="root may read everything")
    def test_a_file_that_may_not_be_read_is_one_line(self, tmp_path, judge):
        (tmp_path / "a.pt").write_bytes(b"x")
        (tmp_path / "a.pt").chmod(0)
        with pytest.raises(DoctorError, match="cannot be read"):
            judge(tmp_path / "a.pt")


def test_the_command_judges_and_diagnose_leads_to_it(tmp_path, run_doctor):
    state = {"a.weight": torch.full((4, 4), float("nan"))}
    save_file(state, tmp_path / "a.safetensors")
    for command in ("gate", "diagnose"):
        ended = run_doctor(command, "a.safetensors", "--format", "json")
        assert ended.returncode == 1
        report = json.loads(ended.stdout)
        assert report["subject"]["kind"] == "artifact"
        assert report["findings"][0]["faults"] == ["nan-weights"]
    assert run_doctor("gate", "a.safetensors", "--ignore", "WGT001").returncode == 0
    assert run_doctor("gate", "a.safetensors", "--exit-zero").returncode == 0
    assert run_doctor("gate", "a.safetensors", "--require", "MOD002", "--ignore", "WGT001").returncode == 1
    missing = run_doctor("gate", "b.safetensors")
    assert missing.returncode == 2
    assert missing.stderr.count("\n") == 1


def test_an_array_of_objects_and_plain_arrays(tmp_path, judge):
    import numpy as np

    np.savez(tmp_path / "plain.npz", a=np.zeros(3))
    blob = io.BytesIO()
    np.save(blob, np.array([{"a": 1}], dtype=object), allow_pickle=True)
    with zipfile.ZipFile(tmp_path / "objects.npz", "w") as archive:
        archive.writestr("a.npy", blob.getvalue())
    for name, sick in (("plain.npz", False), ("objects.npz", True)):
        (tmp_path / name).rename(tmp_path / f"{name}.bin")
        assert ("unsafe-pickle" in labels(judge(tmp_path / f"{name}.bin"))) == sick
