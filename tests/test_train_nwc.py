"""Training nets for nwc: what is exported is what was trained, and a run is repeatable, interrupted or not."""

from __future__ import annotations

import json
from dataclasses import replace

import numpy as np
import pytest
import torch
from battery import ROOT
from blake3 import blake3
from safetensors.numpy import save_file

from wcodec.coding import net as nets
from wcodec.errors import EncodeError
from wcodec.train import integer_layers, measure, nwc, pieces, quantisers

NARROW = {name: replace(profile, width=8) for name, profile in nwc.PROFILES.items()}


@pytest.fixture(autouse=True)
def one_thread():
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


def real(count: int = 64) -> torch.Tensor:
    return pieces.student(count, torch.Generator().manual_seed(3))


def shaken(profile: nwc.Profile, seed: int) -> integer_layers.Net:
    """Build a net far from its start: all its numbers are random and large, shifts included."""
    torch.manual_seed(seed)
    net = nwc.synthesis(profile)
    with torch.no_grad():
        for name, parameter in net.named_parameters():
            if parameter.requires_grad:
                parameter += torch.randn_like(parameter) * (2 if "shift" in name else 0.5)
    return net


@pytest.mark.parametrize("name", NARROW)
@pytest.mark.parametrize("width", [8, 65])
def test_export_is_what_was_trained(name, width):
    for seed in range(4):
        net = shaken(replace(NARROW[name], width=width), seed)
        exported = nets.parse(nets.pack(net.export()))
        rng = np.random.default_rng(seed)
        latents = (rng.standard_t(2, (50, 16, 7)) * 10 ** rng.uniform(0, 3, (50, 1, 7))).clip(-(2**17) + 1, 2**17 - 1).astype(np.int64)
        levels = rng.integers(0, exported.levels, 7).astype(np.uint8)
        chunks = torch.from_numpy(latents.transpose(0, 2, 1).reshape(-1, 16).astype(np.float32))
        with torch.no_grad():
            out = net(chunks, torch.from_numpy(np.tile(levels, 50).astype(np.int64)), True) * 2**exported.shift
        expected = nets.run(exported, latents, levels).transpose(0, 2, 1).reshape(-1, 16)
        assert np.array_equal(out.numpy().astype(np.int64), expected)
        assert np.ptp(expected - (latents.transpose(0, 2, 1).reshape(-1, 16) << exported.shift)) > 50


@pytest.mark.parametrize("name", NARROW)
def test_starts_at_identity(name):
    model = nwc.Run.start(NARROW[name], steps=2).model
    k = torch.randint(-200, 200, (30, 16)).float()
    levels = torch.randint(len(NARROW[name].levels), (30,))
    for exact in (False, True):
        assert torch.equal(model.net(k, levels, exact), k)
    point = measure.measure(model, model.net.export(), {"": pieces.gaussian(512, torch.Generator().manual_seed(0))}, [1])[0]
    assert point.net == 0
    assert abs(point.scalar) < 0.05 and abs(point.shannon - 0.25) < 0.05


@pytest.mark.parametrize("name", NARROW)
def test_learns(name):
    """The integer net is better than none, where there is most to be had: at about one bit, and on weights whose scale changes."""
    run = nwc.Run.start(replace(NARROW[name], width=16, blocks=1, levels=(nwc.Level(1.0, trellis=name == "fast"),)), steps=120, batch=32)
    draw = torch.Generator().manual_seed(5)
    run.advance(pieces.lognormal(500, draw), 120)
    (point,) = measure.measure(run.model, run.model.net.export(), {"": pieces.lognormal(256, draw)})
    assert point.net > 0.005
    if name == "fast":
        run.model.silence([0])
        assert measure.measure(run.model, run.model.net.export(), {"": pieces.lognormal(16, draw)})[0].net == 0


@pytest.mark.parametrize("name", NARROW)
def test_resumes_and_repeats(name, tmp_path):
    def state(run: nwc.Run) -> list[torch.Tensor]:
        return [value.clone() for value in run.model.state_dict().values()]

    def start(seed: int) -> nwc.Run:
        return nwc.Run.start(NARROW[name], steps=10, seed=seed, batch=8)

    whole, again, other = start(0), start(0), start(1)
    for run in (whole, again, other):
        run.advance(real(), 10)
    parted = start(0)
    parted.advance(real(), 6)
    parted.save(tmp_path / "run.pt")
    torch.rand(5)
    parted = nwc.Run.resume(tmp_path / "run.pt")
    assert parted.step == 6 and parted.model.profile == NARROW[name]
    parted.advance(real(), 10)
    for run, same in ((again, True), (parted, True), (other, False)):
        assert all(map(torch.equal, state(whole), state(run))) == same
    assert np.array_equal(nets.pack(whole.model.net.export()), nets.pack(parted.model.net.export()))


def test_bundled_net_is_the_recorded_one():
    record = json.loads((ROOT / "wcodec" / "nets" / "fast.json").read_text())
    data = (ROOT / "wcodec" / "nets" / "fast.bin").read_bytes()
    net = nets.parse(np.frombuffer(data, np.uint8))
    assert record["net"] == {"bytes": len(data), "products": net.products, "blake3": blake3(data).hexdigest()}
    assert net.levels == len(record["profile"]["levels"]) == len(nwc.PROFILES["fast"].levels)
    k = np.random.default_rng(0).integers(-50, 50, (9, 16, 3))
    for level in record["silent"]:
        assert np.array_equal(nets.run(net, k, level), k << net.shift)


def test_other_files_are_no_checkpoints(tmp_path):
    (tmp_path / "x.pt").write_bytes(b"abc")
    torch.save({"step": 1}, tmp_path / "y.pt")
    for name in ("x.pt", "y.pt"):
        with pytest.raises(EncodeError, match="checkpoint"):
            nwc.Run.resume(tmp_path / name)
    with pytest.raises(FileNotFoundError):
        nwc.Run.resume(tmp_path / "z.pt")


def test_quantisers():
    """The scalar one sits a quarter of a bit above R(D), the trellis 0.18 below it; its integers follow the shift register."""
    x = pieces.gaussian(1500, torch.Generator().manual_seed(0))
    k = quantisers.scalar(x / 0.5, torch.tensor(2.0))
    assert measure.entropy(k.long().numpy()) + 0.5 * np.log2(float((0.5 * k - x).square().mean())) == pytest.approx(0.25, abs=0.02)
    k = quantisers.trellis(x / 0.25, torch.full((len(x), 1), 4.0)).long()
    bits = measure.entropy(k.numpy()) - 1
    assert bits + 0.5 * np.log2(float((0.25 * k - x).square().mean())) == pytest.approx(0.05, abs=0.03)
    for row in k[:20].tolist():
        states = set(range(8))
        for value in row:
            states = {int(quantisers.next_trellis_state(s, (value - (s & 1)) // 2, 3)) for s in states if s & 1 == value & 1}
        assert states


def test_pieces(tmp_path):
    """Pieces go down columns of row-normalised matrices; held-out ones are others; small and integer tensors stay out."""
    rng = np.random.default_rng(0)
    weights = {"a": rng.normal(0, 3, (130, 40)).astype(np.float32), "conv": rng.normal(0, 1, (64, 8, 3, 3)).astype(np.float16)}
    save_file(weights | {"bias": np.ones(999, np.float32), "few": np.ones((9, 99), np.float32)}, tmp_path / "m.safetensors")
    kept, held = pieces.read([tmp_path / "m.safetensors"], 10**6, 0)
    assert (len(kept), len(held)) == (143, 9)
    a = weights["a"] / np.sqrt(np.square(weights["a"]).mean(1, keepdims=True))
    columns = {np.round(a[64 * band : 64 * band + 64, col], 4).tobytes() for band in range(2) for col in range(40)}
    found = [np.round(piece.numpy(), 4).tobytes() for piece in torch.cat([kept, held])]
    assert len(set(found)) == len(found)
    assert len(columns & set(found)) >= 70
    few = pieces.read([tmp_path / "m.safetensors"], 30, 0)[0]
    assert 25 <= len(few) <= 35
    x = pieces.mixture(kept, 1000, torch.Generator().manual_seed(0))
    assert x.shape == (1000, pieces.PIECE) and 0.8 < float(x.square().mean()) < 1.3
    assert pieces.mixture(kept[:0], 10, torch.Generator()).shape == (10, pieces.PIECE)
