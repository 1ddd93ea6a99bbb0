"""Small networks of several domains, exported once a session, and the evidence of running them beside their reference."""

import importlib
import importlib.util
import sys
import warnings
from dataclasses import asdict
from types import SimpleNamespace

import numpy as np
import pytest
import torch

from doctor import registry
from doctor.errors import Unavailable
from doctor.evidence.artifact_run import from_events, parity_run
from doctor.interfaces import reading

NETS = '''
"""References: networks with settled weights, as if they had been trained."""
import torch
from torch import nn
from torch.nn import functional as F


def settled(model, seed=3):
    g = torch.Generator().manual_seed(seed)
    for name, value in model.state_dict().items():
        if name.endswith("running_var"):
            value.copy_(torch.rand(value.shape, generator=g) + 0.5)
        elif value.is_floating_point() and name not in ("mean", "std"):
            value.copy_(torch.randn(value.shape, generator=g) / max(value[0].numel(), 1) ** 0.5 if value.dim() > 1
                        else 0.2 * torch.randn(value.shape, generator=g) + ("norm" in name))
    return model.eval()


class Photo(nn.Module):
    def __init__(self):
        super().__init__()
        self.conv = nn.Conv2d(3, 8, 3, padding=1)
        self.bn = nn.BatchNorm2d(8)
        self.drop = nn.Dropout(0.4)
        self.out = nn.Linear(8, 4)

    def forward(self, images):
        x = F.relu(self.bn(self.conv(images))).mean((2, 3))
        return self.out(self.drop(x))


class Camera(nn.Module):
    def __init__(self):
        super().__init__()
        self.net = Photo()
        self.register_buffer("mean", torch.tensor([120.0, 110.0, 100.0]).view(1, 3, 1, 1))
        self.register_buffer("std", torch.tensor([60.0, 55.0, 50.0]).view(1, 3, 1, 1))

    def forward(self, images):
        return self.net((images - self.mean) / self.std)


class Tagger(nn.Module):
    def __init__(self):
        super().__init__()
        self.embed = nn.Embedding(40, 12)
        self.lstm = nn.LSTM(12, 10, batch_first=True, bidirectional=True)
        self.out = nn.Linear(20, 3)

    def forward(self, input_ids, lengths):
        h, _ = self.lstm(self.embed(input_ids))
        live = torch.arange(input_ids.shape[1], device=input_ids.device) < lengths.unsqueeze(1)
        return self.out(h) * live.unsqueeze(-1)


class Match(nn.Module):
    def __init__(self):
        super().__init__()
        self.user = nn.Linear(6, 10)
        self.item = nn.Linear(6, 10)
        self.head = nn.Sequential(nn.Linear(20, 16), nn.GELU(), nn.LayerNorm(16), nn.Linear(16, 2))

    def forward(self, user, item):
        return self.head(torch.cat([self.user(user).tanh(), self.item(item)], 1))


class Sampler(nn.Module):
    def __init__(self):
        super().__init__()
        self.mean = nn.Linear(6, 4)

    def forward(self, x):
        return self.mean(x) + 0.3 * torch.randn_like(x[:, :4])


class Gate(nn.Module):
    def __init__(self):
        super().__init__()
        self.small = nn.Linear(6, 3)
        self.large = nn.Linear(6, 3)

    def forward(self, x):
        if x.abs().max() > 4:
            return self.large(x)
        return self.small(x)


class Heads(nn.Module):
    def __init__(self):
        super().__init__()
        self.a = nn.Linear(6, 3)
        self.b = nn.Linear(6, 3)

    def forward(self, x):
        return self.a(x), self.b(x).tanh()


class Track(nn.Module):
    def __init__(self):
        super().__init__()
        self.gru = nn.GRU(6, 8)
        self.out = nn.Linear(8, 2)

    def forward(self, steps):
        return self.out(self.gru(steps)[0])


class Scaled(Photo):
    def sample_inputs(self):
        return (noise(5, 3, 8, 8),)


class Mixing(Match):
    def forward(self, user, item):
        return super().forward(user, item - item.mean(0))


def scaled(): return settled(Scaled())
def mixing(): return settled(Mixing())
def photo(): return settled(Photo())
def camera(): return settled(Camera())
def tagger(): return settled(Tagger())
def match(): return settled(Match())
def sampler(): return settled(Sampler())
def gate(): return settled(Gate())
def heads(): return settled(Heads())
def track(): return settled(Track())
def fresh(): return Photo()


def noise(*shape, seed=0): return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


SAMPLES = {
    "photo": lambda: {"images": noise(5, 3, 8, 8)},
    "camera": lambda: {"images": noise(5, 3, 8, 8) * 60 + 110},
    "tagger": lambda: {"input_ids": noise(5, 9).mul(9).long() % 40, "lengths": torch.tensor([9, 7, 5, 9, 4])},
    "mixing": lambda: {"user": noise(6, 6), "item": noise(6, 6, seed=1)},
    "match": lambda: {"user": noise(6, 6), "item": noise(6, 6, seed=1)},
    "sampler": lambda: {"x": noise(6, 6)},
    "gate": lambda: {"x": noise(6, 6).clamp(-2, 2)},
    "heads": lambda: {"x": noise(6, 6)},
    "track": lambda: {"steps": noise(9, 4, 6)},
}
FREE = {
    "tagger": {"input_ids": {0: "batch", 1: "tokens"}, "lengths": {0: "batch"}},
    "track": {"steps": {1: "batch"}},
}
'''


@pytest.fixture(scope="session")
def nets(tmp_path_factory):
    """The module of the references."""
    folder = tmp_path_factory.mktemp("nets")
    path = folder / "gate_references.py"
    path.write_text(NETS, encoding="utf-8")
    spec = importlib.util.spec_from_file_location("gate_references", path)
    module = importlib.util.module_from_spec(spec)
    sys.modules["gate_references"] = module
    spec.loader.exec_module(module)
    return module


class Exports:
    """Makes artifacts of a reference: each way of export, of a changed model where one is given."""

    def __init__(self, nets, folder):
        self.nets, self.folder, self.count = nets, folder, 0

    def _start(self, name, model, sample, suffix):
        self.count += 1
        warnings.simplefilter("ignore")
        model = model if model is not None else getattr(self.nets, name)()
        return self.folder / f"{name}-{self.count}{suffix}", model, sample or self.nets.SAMPLES[name]()

    def onnx(self, name, model=None, sample=None, names=None, outputs=("out",), free=None, **options):
        path, model, sample = self._start(name, model, sample, ".onnx")
        names = list(names or sample)
        if free is None:
            axes = self.nets.FREE.get(name) or {each: {0: "batch"} for each in sample}
            free = {new: axes[old] for new, old in zip(names, sample, strict=False)}
            free |= {each: {1 if name == "track" else 0: "batch"} for each in outputs}
        torch.onnx.export(
            model, tuple(sample.values()), str(path), dynamo=False, opset_version=17, input_names=names,
            output_names=list(outputs), dynamic_axes=free, **options,
        )  # fmt: skip
        return path

    def traced(self, name, model=None, sample=None):
        path, model, sample = self._start(name, model, sample, ".pt")
        torch.jit.trace(model, tuple(sample.values()), check_trace=False).save(str(path))
        return path

    def scripted(self, name, model=None):
        path, model, _ = self._start(name, model, None, ".pt")
        torch.jit.script(model).save(str(path))
        return path

    def pt2(self, name, model=None, *, free=True):
        path, model, sample = self._start(name, model, None, ".pt2")
        auto = torch.export.Dim.AUTO
        axes = self.nets.FREE.get(name) or {each: {0: "batch"} for each in sample}
        shapes = tuple(dict.fromkeys(each, auto) for each in axes.values()) if free else None
        torch.export.save(torch.export.export(model, tuple(sample.values()), dynamic_shapes=shapes), str(path))
        return path

    def weights(self, name, model=None, dtype=None):
        from safetensors.torch import save_file

        path, model, _ = self._start(name, model, None, ".safetensors")
        state = {k: v.to(dtype) if dtype and v.is_floating_point() else v for k, v in model.state_dict().items()}
        save_file({key: value.contiguous().clone() for key, value in state.items()}, str(path))
        return path


@pytest.fixture(scope="session")
def exports(nets, tmp_path_factory):
    """The exporter."""
    return Exports(nets, tmp_path_factory.mktemp("artifacts"))


KINDS = {".onnx": "onnx", ".pt": "torchscript", ".pt2": "pt2", ".safetensors": "safetensors"}


@pytest.fixture
def examine(nets, tmp_path):
    """Run an artifact beside its reference, in this process; what all rules about inputs and outputs find."""
    from doctor.parity import session
    from doctor.parity.reference import Reference
    from doctor.subjects.reference_child import build_twice

    def examine(path, reference=None, sample=None, *, inputs=True, given=None):
        kind = KINDS[path.suffix]
        try:
            contract = reading.read(path, path.name, kind)
        except reading.UnreadableInterface:
            contract = None
        file = given
        if inputs and given is None:
            file = tmp_path / f"{path.stem}.npz"
            np.savez(file, **{k: v.numpy() for k, v in (sample or nets.SAMPLES[reference]()).items()})
        events = []
        job = {
            "path": str(path),
            "kind": kind,
            "inputs": str(file) if file else None,
            "trust": False,
            "inputs_declared": [asdict(port) for port in contract.inputs] if contract else [],
            "quantised": sorted({note.detail for note in contract.of("quantised")}) if contract else [],
        }
        known = None
        if reference:
            facts, module, model = build_twice(f"{nets.__file__}:{reference}", tmp_path)
            known = Reference(module, model, settled=facts["settled"])
        session.run(job, lambda section, **data: events.append({"section": section, **data}), known)
        run = from_events(events, named=kind == "onnx", reference_asked=reference is not None)
        found = {type(run): run} | ({type(contract): contract} if contract else {})
        try:
            parity = parity_run(run)
            found[type(parity)] = parity
        except Unavailable as reason:
            parity = reason
        from doctor.evidence.artifact_contents import ArtifactContents

        found[ArtifactContents] = ArtifactContents()
        looks = [look for rule in registry.load().values() if rule.code.startswith("IOC") for look in rule.looks]
        findings, skipped = registry.run(looks, found, {})
        assert not [skip for skip in skipped if skip.crashed], skipped
        told = {finding.rule: finding for finding in findings if finding.level != "info"}
        return SimpleNamespace(findings=findings, told=told, run=run, parity=parity, contract=contract, skipped=skipped)

    return examine
