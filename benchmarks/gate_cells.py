"""Faults by formats: `python -m benchmarks.gate_cells [WORD ...]` (only cells whose name holds a WORD).

Four small networks are trained and exported as state dict, checkpoint, legacy file, safetensors (one file, shards, a
folder with its configuration), whole module, ONNX by both exporters, TorchScript scripted and traced, and torch.export:
once as they are, and once with each fault. The gate judges each file by its own command, alone (`none`), beside a
reference that is trained, or one whose weights are new at every build (`fresh`), and the sample. A faulty file is found
when an error or a warning bears its label; a sound one is quiet when there is none of either.
"""

from __future__ import annotations

import importlib.util
import json
import re
import subprocess
import sys
import tempfile
import warnings
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors.torch import save_file
from torch import nn

NETWORKS = Path(__file__).resolve().parent.parent / "fixtures" / "artifacts" / "networks.py"
WEIGHTS = ("state", "checkpoint", "legacy", "safetensors", "shards", "folder")
GRAPHS = ("onnx", "dynamo", "scripted", "traced", "pt2")
TRACED = ("onnx", "traced", "pt2")
BOTH = ("trained", "fresh")
ALL = (*BOTH, "none")
State = dict[str, torch.Tensor]


@dataclass(frozen=True)
class Fault:
    """What is done to a network (`model`) or its state dict (`state`) before it is written, and in which formats."""

    label: str
    what: str
    network: str
    state: Callable[[State], State] | None = None
    model: Callable[[Any], Any] | None = None
    formats: tuple[str, ...] = WEIGHTS
    references: tuple[str, ...] = ("trained",)
    also: tuple[str, ...] = ()  # further labels that are fair
    fixed: bool = False  # no free batch dimension
    options: dict[str, Any] = field(default_factory=dict)  # of the exporter
    names: tuple[str, ...] = ()  # of the inputs


def without(*beginnings: str) -> Callable[[State], State]:
    """Entries left out."""
    return lambda state: {name: value for name, value in state.items() if not name.startswith(beginnings)}


def changed(name: str, change: Callable[[torch.Tensor], torch.Tensor]) -> Callable[[State], State]:
    """One entry changed."""
    return lambda state: state | {name: change(state[name].clone())}


def spoilt(value: torch.Tensor, number: float = float("nan")) -> torch.Tensor:
    """One element replaced."""
    value.view(-1)[3] = number
    return value


def coarse(value: torch.Tensor) -> torch.Tensor:
    """Matrices rounded to three bits with one scale."""
    if value.dim() < 2:
        return value
    step = value.abs().max() / 3
    return (value / step).round() * step


def edited(change: Callable[[Any], Any]) -> Callable[[Any], Any]:
    """A change of a network in place."""

    def apply(net: Any) -> Any:
        with torch.no_grad():
            change(net)
        return net

    return apply


class Around(nn.Module):
    """The network called by another one."""

    def __init__(self, net: Any, call: Callable[..., Any]) -> None:
        super().__init__()
        self.net, self._call = net, call

    def forward(self, *inputs: Any) -> Any:
        return self._call(self.net, *inputs)


def faults(networks: Any) -> Iterator[Fault]:
    """All cells; the first are sound."""
    same: dict[str, Any] = {"state": lambda state: state, "model": lambda net: net}
    model: dict[str, Any] = {"model": lambda net: net}
    for name in networks.CLASSES:
        yield Fault("", "as it is", name, **same, formats=(*WEIGHTS, *GRAPHS), references=ALL)
        yield Fault("", "as it is", name, **same, formats=("module",), references=BOTH)  # alone it is unsafe
    for prefix in ("module.", "model.", "_orig_mod.", "module._orig_mod."):
        yield Fault("key-prefix-mismatch", prefix, "plates", prefixed(prefix), references=BOTH)
    yield Fault("silent-missing-keys", "head", "plates", without("fc."), references=BOTH)
    yield Fault("silent-missing-keys", "layer", "lm", without("layers.2."), references=BOTH, also=("stale-artifact",))
    wide = {"head.weight": torch.randn(5, 24), "head.bias": torch.randn(5)}
    yield Fault("shape-mismatch", "classes", "churn", lambda state: state | wide, references=BOTH)
    yield Fault("nan-weights", "one", "churn", changed("head.weight", spoilt), references=("none",))
    spoil = edited(lambda net: spoilt(net.head.weight.data))
    yield Fault("nan-weights", "one", "churn", model=spoil, formats=GRAPHS, references=("trained", "none"))
    yield Fault("dtype-overflow", "half", "plates", overflowing, references=("none",), also=("nan-weights",))
    train = edited(lambda net: net.train())
    preserve = {"training": torch.onnx.TrainingMode.PRESERVE, "do_constant_folding": False}
    for what, change in (("whole", train), ("batch-norm", edited(lambda net: net.bn2.train()))):
        yield Fault("train-mode-export", what, "plates", model=change, formats=("scripted", "traced", "pt2"))
        yield Fault("train-mode-export", what, "plates", model=change, formats=("onnx",), options=preserve)
    yield Fault("train-mode-export", "whole", "plates", model=train, formats=("module",))
    yield Fault("fixed-batch-dim", "declared", "pair", **model, formats=("onnx", "dynamo", "pt2"), fixed=True)
    yield Fault("missing-buffers", "statistics", "plates", parameters, references=ALL)
    yield Fault("missing-buffers", "constants", "churn", without("mean", "std"), references=BOTH)
    untie = changed("lm_head.weight", lambda value: value + 0.05 * torch.randn(50, 32))
    yield Fault("untied-weights", "apart", "lm", untie, references=BOTH)
    swap = around(lambda inner, document, query: inner(query, document))
    yield Fault("swapped-inputs", "order", "pair", model=swap, formats=("traced", "pt2"), also=("wrong-io-signature",))
    exchanged = ("document", "query")
    yield Fault("swapped-inputs", "names", "pair", **model, formats=("onnx", "dynamo"), names=exchanged)
    soft = around(lambda inner, image: inner(image).softmax(1))
    yield Fault("output-mismatch", "softmax", "plates", model=soft, formats=TRACED, also=("wrong-io-signature",))
    scaled = changed("layers.1.down.weight", lambda value: value * 1.5)
    yield Fault("output-mismatch", "scaled", "lm", scaled, also=("stale-artifact",))
    for name in ("churn", "lm"):
        older = networks.train(name, 250, seed=3)
        yield Fault("stale-artifact", "older", name, lambda state, older=older: dict(older.state_dict()))
        yield Fault("stale-artifact", "older", name, model=lambda net, older=older: older, formats=TRACED)
    plain = edited(lambda net: (net.mean.zero_(), net.std.fill_(1)))
    yield Fault("missing-preprocessing", "standardisation", "churn", model=plain, formats=GRAPHS)
    yield Fault("duplicate-tensors", "layer", "lm", doubled, references=ALL)
    rough = edited(lambda net: [value.copy_(coarse(value)) for value in net.parameters() if value.dim() > 1])
    yield Fault("quantization-error", "three bits", "lm", lambda state: {n: coarse(v) for n, v in state.items()})
    yield Fault("quantization-error", "three bits", "churn", model=rough, formats=GRAPHS)
    yield Fault("wrong-io-signature", "names", "churn", **model, formats=("onnx", "dynamo"), names=("x", "c"))
    last = around(lambda inner, numeric, plan: inner(numeric, plan).argmax(1))
    yield Fault("wrong-io-signature", "class ids", "churn", model=last, formats=TRACED, also=("output-mismatch",))
    yield Fault("unmerged-adapter", "lora", "lm", lora, references=ALL)
    fresh = networks.CLASSES["plates"]().fc
    yield Fault("untrained-layer", "head", "plates", edited_head(fresh), references=ALL)
    yield Fault(
        "untrained-layer", "head", "plates", model=edited(lambda net: setattr(net, "fc", fresh)), formats=GRAPHS
    )
    flip = changed("layers.1.up.weight", lambda value: spoilt(value, 7.3e23))
    yield Fault("corrupt-file", "exponent", "lm", flip, formats=("legacy", "safetensors"), references=("none",))


def prefixed(prefix: str) -> Callable[[State], State]:
    """A wrapper's prefix in front of every name."""
    return lambda state: {prefix + name: value for name, value in state.items()}


def overflowing(state: State) -> State:
    """In half precision, one layer beyond its range."""
    state = state | {"stem.weight": state["stem.weight"] * 1e6}
    return {name: value.half() if value.is_floating_point() else value for name, value in state.items()}


def parameters(state: State) -> State:
    """Without the running statistics."""
    return {name: value for name, value in state.items() if not re.search("running|num_batches", name)}


def doubled(state: State) -> State:
    """One layer's weights in the place of another's."""
    first = {name: value for name, value in state.items() if name.startswith("layers.0.")}
    return state | {name.replace("layers.0", "layers.1"): value.clone() for name, value in first.items()}


def around(call: Callable[..., Any]) -> Callable[[Any], Any]:
    """The network within another one."""
    return lambda net: Around(net, call)


def edited_head(layer: nn.Linear) -> Callable[[State], State]:
    """A head as torch.nn draws it."""
    return lambda state: state | {"fc.weight": layer.weight.detach(), "fc.bias": layer.bias.detach()}


def lora(state: State) -> State:
    """As PEFT keeps a model that was not merged."""
    found = dict(state)
    for name in state:
        if name.endswith("qkv.weight"):
            layer, (rows, columns) = name.removesuffix(".weight"), state[name].shape
            for kind in ("weight", "bias"):
                found[f"{layer}.base_layer.{kind}"] = found.pop(f"{layer}.{kind}")
            found[f"{layer}.lora_A.default.weight"] = torch.randn(4, columns) * 0.1
            found[f"{layer}.lora_B.default.weight"] = torch.randn(rows, 4) * 0.1
    return found


def write(fault: Fault, kind: str, folder: Path, networks: Any) -> str:
    """Write the network in a format; the artifact's name within the folder (`.` for the folder itself)."""
    net = networks.trained(fault.network)
    if kind in GRAPHS or kind == "module":
        assert fault.model is not None
        return _graph(fault, kind, fault.model(net), folder, networks)
    assert fault.state is not None
    state = {
        n: v.contiguous().clone() for n, v in fault.state({n: v.detach() for n, v in net.state_dict().items()}).items()
    }
    if kind == "safetensors":
        save_file(state, folder / "net.safetensors")
        return "net.safetensors"
    if kind == "shards":
        names, half = list(state), len(state) // 2
        files = ("model-00001-of-00002.safetensors", "model-00002-of-00002.safetensors")
        for file, part in zip(files, (names[:half], names[half:]), strict=True):
            save_file({name: state[name] for name in part}, folder / file)
        table = {name: files[position >= half] for position, name in enumerate(names)}
        total = sum(value.numel() * value.element_size() for value in state.values())
        index = {"metadata": {"total_size": total}, "weight_map": table}
        (folder / "model.safetensors.index.json").write_text(json.dumps(index))
        return "model.safetensors.index.json"
    if kind == "folder":
        save_file(state, folder / "model.safetensors")
        config = {"model_type": fault.network, "tie_word_embeddings": fault.network == "lm"}
        (folder / "config.json").write_text(json.dumps(config))
        return "."
    content = {"epoch": 40, "state_dict": state, "args": {"lr": 3e-3}} if kind == "checkpoint" else state
    torch.save(content, folder / "net.pt", _use_new_zipfile_serialization=kind != "legacy")
    return "net.pt"


def _graph(fault: Fault, kind: str, model: Any, folder: Path, networks: Any) -> str:
    sample = networks.batch(fault.network, 6, torch.Generator().manual_seed(5))[0]
    names = list(fault.names or networks.INPUTS[fault.network])
    free = None if fault.fixed else tuple({0: torch.export.Dim("batch", min=1, max=512)} for _ in names)
    path = folder / {"onnx": "net.onnx", "dynamo": "net.onnx", "pt2": "net.pt2"}.get(kind, "net.pt")
    if kind == "module":
        torch.save(model, path)
    elif kind == "scripted":
        torch.jit.script(model).save(str(path))
    elif kind == "traced":
        torch.jit.trace(model, sample, check_trace=False).save(str(path))
    elif kind == "pt2":
        torch.export.save(
            torch.export.export(model, sample, dynamic_shapes=_nested(model, free), strict=False), str(path)
        )
    elif kind == "onnx":
        axes = None if fault.fixed else {name: {0: "batch"} for name in (*names, "out")}
        options = {"input_names": names, "output_names": ["out"], "dynamic_axes": axes, "opset_version": 17}
        torch.onnx.export(model, sample, str(path), dynamo=False, **options, **fault.options)
    else:
        options = {"input_names": names, "output_names": ["out"], "dynamic_shapes": _nested(model, free)}
        torch.onnx.export(model, sample, str(path), dynamo=True, verbose=False, **options)
    return path.name


def _nested(model: Any, free: Any) -> Any:
    """`forward(*inputs)` takes its shapes in one more tuple."""
    return (free,) if free is not None and isinstance(model, Around) else free


def judge(path: Path, reference: str, network: str, home: Path) -> list[dict[str, Any]] | None:
    """The gate's findings; None where it gives no report."""
    command = [sys.executable, "-m", "doctor", "gate", str(path), "--isolated", "--format", "json"]
    if reference != "none":
        factory = f"fresh_{network}" if reference == "fresh" else network
        command += ["--reference", f"networks.py:{factory}", "--inputs", f"{network}.npz"]
    ended = subprocess.run(command, cwd=home, capture_output=True, text=True, timeout=300)
    try:
        found: list[dict[str, Any]] = json.loads(ended.stdout)["findings"]
    except (ValueError, KeyError):
        return None
    return [finding for finding in found if finding["severity"] in ("error", "warning")]


def prepared(home: Path) -> Any:
    """The networks' module in a folder of ours, with trained weights and samples beside it."""
    (home / "networks.py").write_text(NETWORKS.read_text(encoding="utf-8"), encoding="utf-8")
    spec = importlib.util.spec_from_file_location("networks", home / "networks.py")
    assert spec is not None
    assert spec.loader is not None
    networks = importlib.util.module_from_spec(spec)
    sys.modules["networks"] = networks  # where a pickled module says its classes are
    spec.loader.exec_module(networks)
    for name in networks.CLASSES:
        torch.save(networks.train(name).state_dict(), home / f"{name}.pt")
        sample = networks.batch(name, 6, torch.Generator().manual_seed(99))[0]
        np.savez(home / f"{name}.npz", **{k: v.numpy() for k, v in zip(networks.INPUTS[name], sample, strict=True)})
    return networks


def main() -> None:
    """Print what was missed or noisy, and the counts."""
    warnings.filterwarnings("ignore")
    torch.set_num_threads(1)
    with tempfile.TemporaryDirectory(prefix="doctor-cells-") as scratch, ThreadPoolExecutor(2) as pool:
        home = Path(scratch)
        networks = prepared(home)
        runs = []
        for number, fault in enumerate(faults(networks)):
            for kind in fault.formats:
                name = f"{fault.label or 'sound'}.{fault.what}.{kind}.{fault.network}"
                if sys.argv[1:] and not any(word in name for word in sys.argv[1:]):
                    continue
                folder = home / f"{number}-{kind}"
                folder.mkdir()
                path = folder / write(fault, kind, folder, networks)
                runs += [
                    (fault, f"{name}.{reference}", pool.submit(judge, path, reference, fault.network, home))
                    for reference in fault.references
                ]
        counts = {"named": 0, "fair": 0, "faulty": 0, "noisy": 0, "sound": 0}
        for fault, name, run in runs:
            loud = run.result()
            labels = {label for finding in loud or () for label in finding["faults"]}
            counts["faulty" if fault.label else "sound"] += 1
            counts["named"] += fault.label in labels
            counts["fair"] += fault.label not in labels and bool(labels & {*fault.also})
            counts["noisy"] += not fault.label and loud != []
            if loud is None or (fault.label and fault.label not in labels) or (not fault.label and loud):
                print(name, "no report" if loud is None else sorted(labels), flush=True)
        print(
            f"{counts['named']} of {counts['faulty']} faulty files named, {counts['fair']} more by another fair label; "
            f"{counts['noisy']} of {counts['sound']} sound files noisy"
        )


if __name__ == "__main__":
    main()
