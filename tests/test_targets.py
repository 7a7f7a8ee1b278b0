"""Targets: bits per weight, sizes and errors hold on many models, and the bytes go where they matter."""

import io
import json
import math
import os
from pathlib import Path

import ml_dtypes
import numpy as np
import pytest
from safetensors.numpy import save_file

import wcodec
import wcodec.numpy
from wcodec.api.encoder import encode_tensors
from wcodec.cli import main
from wcodec.codecs.factors.factoring import thin
from wcodec.rate.allocation import allocate
from wcodec.rate.curves import Curve, Options
from wcodec.rate.target import Target, size_of
from wcodec.rate.within import coarsest


def normal(seed, *shapes, dtype=np.float32, tails=None):
    rng = np.random.default_rng(seed)
    scales = rng.uniform(0.01, 0.2, len(shapes))
    draw = rng.standard_normal if tails is None else lambda shape: rng.standard_t(tails, shape)
    return {f"layers.{i}.weight": (draw(shape) * scale).astype(dtype) for i, (shape, scale) in enumerate(zip(shapes, scales, strict=True))}


SQUARE = [(96, 96)] * 4
EXTRA = {"norm.weight": np.ones(96, np.float32), "layers.0.bias": np.zeros(96, np.float32), "ids": np.arange(200)}
TABLE = {"embed_tokens.weight": np.random.default_rng(9).standard_normal((400, 48)).astype(np.float32)}
MODELS = {
    "mixed": (normal(0, (64, 128), (256, 64), (96, 96), (10, 300)) | EXTRA | TABLE, 4),
    "half": (normal(1, *SQUARE, dtype=np.float16), 3),
    "bfloat": (normal(2, *SQUARE, dtype=ml_dtypes.bfloat16) | EXTRA, 5),
    "double": (normal(3, *SQUARE, dtype=np.float64), 6),
    "tied": ((TABLE | normal(4, *SQUARE)) | {"lm_head.weight": TABLE["embed_tokens.weight"]}, 4),
    "tails": (normal(5, *SQUARE, (128, 200), tails=3), 3.5),
    "convolutions": (normal(6, (32, 16, 3, 3), (32, 32, 3, 3), (32, 3, 7, 7)), 4.5),
    "one": (normal(7, (200, 128)), 2.5),
    "many": (normal(8, *[(40, 48)] * 10), 6),
    "shards": (normal(9, (128, 96), (96, 128), *SQUARE) | EXTRA, 3),
}


def write(model, folder):
    """Write a model; that named shards in two files with an index."""
    tensors = MODELS[model][0]
    if model != "shards":
        save_file(tensors, folder / "model.safetensors")
        return folder / "model.safetensors"
    names = sorted(tensors)
    where = {name: f"model-0000{1 + (i % 2)}-of-00002.safetensors" for i, name in enumerate(names)}
    for file in sorted(set(where.values())):
        save_file({name: tensors[name] for name in names if where[name] == file}, folder / file)
    (folder / "model.safetensors.index.json").write_text(json.dumps({"metadata": {}, "weight_map": where}))
    return folder


def used(path):
    return sum(file.stat().st_size for file in ([path] if path.is_file() else path.glob("*.wcodec")))


@pytest.fixture(params=MODELS)
def model(request, tmp_path):
    (tmp_path / "source").mkdir()
    target = tmp_path / ("encoded" if request.param == "shards" else "m.wcodec")
    return request.param, write(request.param, tmp_path / "source"), target


def test_bits_per_weight(model):
    name, source, target = model
    tensors, bits = MODELS[name]
    report = wcodec.encode(source, target, bpw=bits)
    count = sum(array.size for array in tensors.values()) - (TABLE["embed_tokens.weight"].size if name == "tied" else 0)
    assert report.size == used(target) and report.bpw == pytest.approx(8 * report.size / count)
    assert 0.995 * bits * count <= 8 * report.size <= bits * count
    kept = {row.name for row in report.tensors if row.lossless}
    assert kept == EXTRA.keys() & tensors.keys()


def test_size(model):
    name, source, target = model
    limit = int(sum(array.nbytes for array in MODELS[name][0].values()) * 0.17)
    report = wcodec.encode(source, target, size=f"{limit / 1000}KB", recipe="uniform")
    assert 0.995 * limit <= used(target) == report.size <= limit


def test_error(model):
    _, source, target = model
    report = wcodec.encode(source, target, max_error=0.04)
    lossy = [row for row in report.tensors if not row.lossless and row.alias is None]
    assert lossy and all(0.98 * 0.04 <= row.error.relative <= 0.04 for row in lossy)


ANSWER = {"gwk": "codebook", "codebook": "codebook", "pruned": "sparse", "sparse": "sparse", "lowrank": "lowrank"}


@pytest.mark.parametrize("recipe, codec", ANSWER.items())
def test_every_codec_answers(recipe, codec, tmp_path):
    source = write("mixed", tmp_path)
    report = wcodec.encode(source, recipe=recipe, bpw=5, threads=1)
    assert 0.995 * 5 <= report.bpw <= 5
    assert {row.codec.partition("(")[0] for row in report.tensors if not row.lossless} == {codec}
    bounded = wcodec.encode(source, recipe=recipe, max_error=0.3, force=True)
    lossy = [row.error.relative for row in bounded.tensors if not row.lossless]
    assert min(lossy) > 0.27 and max(lossy) <= 0.3


@pytest.mark.parametrize("recipe", ["sparse", "lowrank"])
@pytest.mark.parametrize("model, bits", [("tails", 3), ("mixed", 4), ("bfloat", 6)])
def test_few_settings_make_up_for_each_other(model, recipe, bits, tmp_path):
    report = wcodec.encode(write(model, tmp_path), recipe=recipe, bpw=bits, threads=1)
    assert 0.995 * bits <= report.bpw <= bits


def test_auto_takes_what_suits_a_tensor(tmp_path):
    rng = np.random.default_rng(0)
    plain = rng.standard_normal((128, 128)).astype(np.float32)
    thin = (rng.standard_normal((256, 2)) @ rng.standard_normal((2, 256))).astype(np.float32)
    values = rng.choice(rng.standard_normal(16).astype(np.float32), (128, 128))
    pruned = plain * (rng.random((128, 128)) < 0.1)
    save_file({"thin": thin, "few": values, "pruned": pruned, "plain": plain}, tmp_path / "m.safetensors")
    report = wcodec.encode(tmp_path / "m.safetensors", recipe="auto", max_error=0.002)
    codecs = {row.name: row.codec.partition("(")[0] for row in report.tensors}
    assert codecs == {"thin": "lowrank", "few": "codebook", "pruned": "sparse", "plain": "trellis"}
    with pytest.raises(wcodec.RecipeError, match="target"):
        wcodec.encode(tmp_path / "m.safetensors", recipe="auto", force=True)


@pytest.mark.parametrize("rows, cols", [(128, 128), (64, 256), (256, 64)])
def test_auto_tries_products_where_they_may_do(rows, cols):
    rng = np.random.default_rng(0)

    def product(rank):
        return (rng.standard_normal((rows, rank)) @ rng.standard_normal((rank, cols))).astype(np.float32)

    assert thin(product(1)) and thin(product(min(rows, cols) // 3))
    assert not thin(rng.standard_normal((rows, cols)).astype(np.float32))


@pytest.mark.parametrize("bits", [1.5, 4])
def test_auto_is_no_worse_than_any_codec(bits, tmp_path):
    rng = np.random.default_rng(1)
    rows = {f"gaussian.{i}": rng.standard_normal((160, 160)) for i in range(2)}
    rows["thin"] = rng.standard_normal((160, 8)) @ rng.standard_normal((8, 160)) + 0.1 * rng.standard_normal((160, 160))
    rows["pruned"] = rng.standard_normal((160, 160)) * (rng.random((160, 160)) < 0.1)
    rows["few"] = rng.choice(rng.standard_normal(16), (160, 160))
    save_file({name: its.astype(np.float32) for name, its in rows.items()}, tmp_path / "m.safetensors")
    noise = {}
    for recipe in ("auto", "trellis", "lowrank", "uniform"):
        report = wcodec.encode(tmp_path / "m.safetensors", recipe=recipe, bpw=bits, force=True)
        noise[recipe] = sum(row.error.noise for row in report.tensors if row.error)
    assert noise["auto"] < 0.8 * min(noise["trellis"], noise["lowrank"], noise["uniform"])


def test_effort(tmp_path):
    source = write("mixed", tmp_path)
    made = {effort: wcodec.encode(source, tmp_path / effort, max_error=0.1, effort=effort).size for effort in ("fast", "normal", "best")}
    assert made["best"] < made["normal"] < made["fast"]
    assert wcodec.encode(source, tmp_path / "named", recipe="trellis:states=8", max_error=0.1, effort="best").size == pytest.approx(
        made["fast"], abs=64
    )
    assert wcodec.encode(source, tmp_path / "auto", recipe="auto", max_error=0.1, effort="best").size <= made["normal"]
    with pytest.raises(wcodec.RecipeError, match="effort is 'slow'"):
        wcodec.encode(source, tmp_path / "slow", bpw=4, effort="slow")


def test_steps_are_options_too(tmp_path):
    source = write("mixed", tmp_path)
    report = wcodec.encode(source, recipe="trellis:step=0.01")
    assert {row.codec.partition("(")[0] for row in report.tensors if not row.lossless} == {"trellis"}


def test_impossible_targets_say_what_is_possible(tmp_path):
    source = write("bfloat", tmp_path)
    with pytest.raises(wcodec.EncodeError, match=r"allows 1,000 bytes; the smallest file possible has about [\d,]+") as caught:
        wcodec.encode(source, size=1000)
    least = int(caught.value.message.partition("about ")[2].partition(", of")[0].replace(",", ""))
    assert [path.name for path in tmp_path.iterdir()] == ["model.safetensors"]
    assert wcodec.encode(source, size=int(1.1 * least)).size <= 1.1 * least


def test_what_does_not_bind_is_lossless(tmp_path):
    report = wcodec.encode(write("half", tmp_path), bpw=40)
    assert report.lossless


def test_the_same_bytes_with_any_number_of_threads(tmp_path):
    source = write("tails", tmp_path)
    for threads in (1, 2):
        wcodec.encode(source, tmp_path / f"{threads}.wcodec", bpw=4, threads=threads)
    assert (tmp_path / "1.wcodec").read_bytes() == (tmp_path / "2.wcodec").read_bytes()


def test_sensitivity(tmp_path):
    source = write("bfloat", tmp_path)
    plain, rows = ({row.name: row.error.relative for row in wcodec.encode(source, bpw=5, sensitivity=its, force=True).tensors if row.error}
                   for its in (None, {"layers.1.weight": 16.0}))  # fmt: skip
    ratio = rows["layers.0.weight"] / rows["layers.1.weight"] / (plain["layers.0.weight"] / plain["layers.1.weight"])
    assert 3 < ratio < 5.4  # the root of what it counts, but for bytes left over
    with pytest.raises(wcodec.EncodeError, match="sensitivity"):
        wcodec.encode(source, bpw=4, sensitivity={"layers.1.weight": -1.0}, force=True)


def test_rules_come_first(tmp_path):
    report = wcodec.encode(write("bfloat", tmp_path), bpw=6, rules=["layers.1.*=lossless", "layers.2.*=uniform:bits=8"])
    rows = {row.name: row for row in report.tensors}
    assert rows["layers.1.weight"].lossless and 0.995 * 6 <= report.bpw <= 6
    assert rows["layers.2.weight"].codec.startswith("uniform") and rows["layers.0.weight"].codec.startswith("trellis")
    assert wcodec.inspect(tmp_path / "model.wcodec").to_json()["encoder"]["recipe"].endswith("--bpw 6")


def test_what_rules_encode_counts_as_what_it_takes(tmp_path):
    rules = [f"layers.{i}.*=uniform:bits=3" for i in range(4)]
    report = wcodec.encode(write("tails", tmp_path), bpw=3.6, rules=rules)  # losslessly, those four alone would take more
    assert 0.995 * 3.6 <= report.bpw <= 3.6


def test_embeddings_are_finer(tmp_path):
    report = wcodec.encode(write("mixed", tmp_path), bpw=4)
    assert any("embed_tokens.weight" in note and "finer" in note for note in report.notes)


def test_memory_and_buffers():
    tensors = MODELS["half"][0]
    data = wcodec.numpy.save(tensors, bpw=4)
    assert 0.995 * 4 <= 8 * len(data) / sum(array.size for array in tensors.values()) <= 4
    assert wcodec.numpy.load(data).keys() == tensors.keys()
    rows = encode_tensors(wcodec.numpy._tensors(tensors), io.BytesIO(), max_error=0.1)
    assert all(0.098 <= row.error.relative <= 0.1 for row in rows)


def test_reports(tmp_path, capsys, monkeypatch):
    monkeypatch.chdir(tmp_path)
    write("tails", tmp_path)
    assert main(["encode", "model.safetensors", "--bpw", "4"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert all(word in lines[0] for word in ("bpw", "error", "SNR dB", "gap", "outliers"))
    assert "bits per weight" in lines[-1] and "once loaded" in lines[-1]
    assert main(["encode", "model.safetensors", "--max-error", ".1", "--json", "-f"]) == 0
    found = json.loads(capsys.readouterr().out)
    row = next(row for row in found["tensors"] if row["name"] == "layers.0.weight")
    x = MODELS["tails"][0]["layers.0.weight"].astype(np.float64)
    y = wcodec.numpy.load_file("model.wcodec")["layers.0.weight"]
    noise = np.mean((x - y) ** 2) / x.var()
    assert row["error"]["noise"] == pytest.approx(noise) and row["gap"] == pytest.approx(row["bits"] + math.log2(noise) / 2, abs=2e-4)
    assert row["error"]["outliers"] == np.count_nonzero(np.abs(x - x.mean()) > 6 * x.std()) > 0
    assert found["loaded"] == sum(row["raw_size"] for row in found["tensors"]) and found["bpw"] == pytest.approx(
        8 * Path("model.wcodec").stat().st_size / sum(math.prod(row["shape"]) for row in found["tensors"])
    )
    assert main(["encode", "model.safetensors", "--bpw", "4", "--size", "1MB", "-f"]) == 2
    assert main(["encode", "model.safetensors", "--size", "much", "-f"]) == 2


@pytest.mark.skipif(
    "WCODEC_MODELS" not in os.environ, reason="WCODEC_MODELS names a folder with minilm.f32.safetensors, as tools/models.py does"
)
@pytest.mark.parametrize("target", [{"bpw": 4}, {"size": "9MB"}, {"bpw": 3, "recipe": "uniform"}, {"max_error": 0.05}])
def test_minilm(target, tmp_path):
    report = wcodec.encode(Path(os.environ["WCODEC_MODELS"]) / "minilm.f32.safetensors", tmp_path / "m.wcodec", **target)
    if "max_error" in target:
        assert all(0.98 * 0.05 <= row.error.relative <= 0.05 for row in report.tensors if row.error)
    else:
        limit = 9_000_000 if "size" in target else target["bpw"] * 22_713_728 / 8
        assert 0.995 * limit <= report.size <= limit


def test_targets():
    assert size_of("7.5GB") == 7_500_000_000 and size_of(12) == 12 and size_of("3k") == 3000
    assert Target.of(None, None, None) is None and Target.of(4, None, None).limit(1000) == 500
    for wrong in ((0, None, None), (4, 10, None), (None, None, -1.0), (None, "x", None)):
        with pytest.raises(wcodec.RecipeError):
            Target.of(*wrong)


def gaussian(count, variance):
    """Bits are 8 per byte: error falls by 4 for every bit."""
    curve = Curve(lambda p: (count * p / 8, count * variance * 4.0**-p), 0.0, 12.0, lambda p: p)
    return Options([curve], count * 4.0)


def test_one_slope_is_reverse_water_filling():
    tensors = {"a": gaussian(1000, 1.0), "b": gaussian(3000, 0.01), "c": gaussian(500, 30.0)}
    rungs, _ = allocate(tensors, 2000.0, 0.0)
    assert 0.999 * 2000 <= sum(rung.size for rung in rungs.values()) <= 2000
    per_weight = [rungs[name].error / count for name, count in (("a", 1000), ("b", 3000), ("c", 500))]
    assert max(per_weight) < 1.3 * min(per_weight)  # but for bytes left over, spent on the largest
    assert allocate({"a": gaussian(1000, 1.0)}, 1e9, 0.0)[0]["a"].position is None  # all fits losslessly


def test_bytes_really_used_correct_a_curve():
    curve = Curve(lambda p: (100.0 * 2**p, 4.0**-p), 0.0, 8.0, lambda p: p)
    curve.learn(2.0, 440.0)
    assert curve.rung(2.0).size == pytest.approx(440) and curve.rung(4.0).size == pytest.approx(1760)
    curve.learn(3.0, 800.0)
    assert curve.rung(2.0).size == pytest.approx(440) and curve.rung(3.0).size == pytest.approx(800)
    assert 1.04 < curve.rung(2.5).size / (100 * 2**2.5) < 1.06
    curve.end(0.0)
    assert Options([curve], 1000).at(0.0).position is None


def test_a_target_below_the_coarsest_rung_is_none():
    curve = Curve(lambda p: (100 + 10 * p, 4.0**-p), 0.0, 8.0, lambda p: p)
    assert allocate({"a": Options([curve], 1000)}, 50.0, 0.0) is None


@pytest.mark.parametrize("power", [0.3, 1.0, 2.5])
@pytest.mark.parametrize("start", [0.0, 3.3, 12.0])
def test_coarsest_within_an_error(power, start):
    seen = []

    def error(p):
        seen.append(p)
        return 8 * 2.0 ** (-power * p)

    found = coarsest(error, -2.0, 14.0, lambda p: p, start)
    assert found is not None and 0.985 <= error(found) <= 1 and len(seen) <= 13
    assert coarsest(error, -2.0, 14.0, lambda p: float(math.floor(p)), start) == math.ceil(3 / power)
    assert coarsest(lambda p: 2.0, 0.0, 5.0, lambda p: p, start) is None
