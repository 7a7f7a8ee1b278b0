"""Recipes as text: rules, options, and what is wrong with them; the catalogue of methods."""

from __future__ import annotations

import json
from dataclasses import fields
from functools import partial

import numpy as np
import pytest
from battery import make_env
from safetensors.numpy import save_file

import wcodec
from wcodec.cli import main
from wcodec.codecs import CODECS
from wcodec.codecs.lossless import encode_part
from wcodec.errors import RecipeError
from wcodec.recipes import Match, make_method, read_recipe
from wcodec.recipes.base import WithCodec
from wcodec.recipes.catalogue import catalogue, codec_entry, codecs, method_entry
from wcodec.recipes.methods import METHODS
from wcodec.types import Spec

W = Spec.of("F32", 64, 32)


def toml(tmp_path, text: str):
    path = tmp_path / "r.toml"
    path.write_text(text)
    return read_recipe(path)


def chosen(recipe, name: str, spec: Spec = W):
    method = recipe.choose(name, spec).method
    return dict(method.config) if isinstance(method, WithCodec) else method.name


WRONG = {
    "rules = 3": "a list of [[rule]] tables and nothing else",
    "[[rule]]\nuse = 'wfn'\n[other]\n": "a list of [[rule]] tables and nothing else",
    "[rule]\nuse = 'wfn'": "a list of [[rule]] tables",
    "rule = [1, 2]": "a list of [[rule]] tables",
    "": "a list of [[rule]] tables",
    "[[rule]\n": "not TOML",
    "[[rule]]\ntensors = ['*']": "rule 1: a rule needs use",
    "[[rule]]\nuse = 3": "rule 1: a rule needs use",
    "[[rule]]\nuse = 'wfn'\nsafe = 'no'": "a rule needs use",
    "[[rule]]\nuse = 'wfn'\n[[rule]]\nuse = 'nonsense'": "rule 2: no recipe or codec 'nonsense'; there are: ",
    "[[rule]]\nuse = 'wfn'\ndelt = 0.1": "wfn has no option 'delt'; there are: delta",
    "[[rule]]\nuse = 'lossless'\nbits = 3": "lossless has no option 'bits'",
    "[[rule]]\nuse = 'wfn'\ndelta = 'much'": "wfn: delta is 'much', expected a number",
    "[[rule]]\nuse = 'wfn'\ndelta = 2.0": "delta is above 0 and below 1",
    "[[rule]]\nuse = 'gwk'\nvalues = 1.5": "values is 1.5, expected a whole number",
    "[[rule]]\nuse = 'gwk'\nvalues = true": "values is True, expected a whole number",
    "[[rule]]\nuse = 'pq'\nhalf = 1": "half is 1, expected true or false",
    "[[rule]]\nuse = 'pruned'\nscope = 3": "scope is 3, expected text",
    "[[rule]]\nuse = 'pruned'\nscope = 'planet'": "scope is 'planet'",
    "[[rule]]\nuse = 'pruned'\nvalues = 'uniform'": "values is 'uniform', expected a config",
    "[[rule]]\nuse = 'joint-rank-k'\ngroups = 'abc'": "expected a list",
    "[[rule]]\nuse = 'joint-rank-k'\ngroups = ['abc']": "lists of regular expressions",
    "[[rule]]\nuse = 'joint-rank-k'\nkeep = 0.5\nrank = 3": "exclude each other",
    "[[rule]]\nuse = 'dropback'\nfill = {'*' = 3}": "a config of each",
    "[[rule]]\nuse = 'wfn'\ndtype = 'FLOAT'": "no dtype 'FLOAT'",
    "[[rule]]\nuse = 'wfn'\ndtype = [3]": "dtype is not a string",
    "[[rule]]\nuse = 'wfn'\ntensors = 3": "tensors is not a string or a list of strings",
    "[[rule]]\nuse = 'wfn'\nshape = 64": "shape, dims and count are whole numbers",
    "[[rule]]\nuse = 'wfn'\nshape = [64, '?']": "shape, dims and count are whole numbers",
    "[[rule]]\nuse = 'wfn'\ndims = '2'": "shape, dims and count are whole numbers",
    "[[rule]]\nuse = 'wfn'\ncount = -1": "shape, dims and count are whole numbers",
}


@pytest.mark.parametrize("text", WRONG)
def test_errors_of_files(tmp_path, text):
    with pytest.raises(RecipeError) as error:
        toml(tmp_path, text)
    assert WRONG[text] in str(error.value) and "r.toml" in str(error.value)


def test_missing_option():
    """A method may have options without defaults."""
    kind = METHODS["gwk"]
    assert not [name for name, default in kind.options().items() if default is kind]
    with pytest.raises(RecipeError, match="needs the option 'config'"):
        from wcodec.recipes import files

        found = dict(METHODS) | {"codec": WithCodec}
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(files, "METHODS", found)
            make_method("codec", {})


def test_first_match_wins(tmp_path):
    recipe = toml(
        tmp_path,
        """
        [[rule]]
        tensors = "*.q.*"
        use = "gwk"
        [[rule]]
        dims = 2
        use = "uniform"
        bits = 4
        [[rule]]
        use = "wfn"
        """,
    )
    assert chosen(recipe, "a.q.weight") == "gwk"
    assert chosen(recipe, "a.k.weight") == {"codec": "uniform", "bits": 4}
    assert chosen(recipe, "conv", Spec.of("F32", 8, 16, 3, 3)) == "wfn"
    more = read_recipe(tmp_path / "r.toml", ["a.*=pq:width=4", "a.k*=raw"])
    assert [chosen(more, name) for name in ("a.q.weight", "a.k.weight", "b.q.weight")] == ["pq", "pq", "gwk"]
    assert more.text.startswith("a.*=pq:width=4\na.k*=raw\n") and "[[rule]]" in more.text


@pytest.mark.parametrize(
    "match, good, bad",
    [
        ("shape = [64, '*']", W, Spec.of("F32", 32, 64)),
        ("shape = ['*', '*', 3, 3]", Spec.of("F32", 8, 16, 3, 3), Spec.of("F32", 8, 16, 1, 9)),
        ("shape = [64, 32]", W, Spec.of("F32", 64, 32, 1)),
        ("dims = 3", Spec.of("F32", 2, 32, 64), W),
        ("count = 2048", W, Spec.of("F32", 64, 31)),
        ("dtype = ['BF16', 'F32']", W, Spec.of("F16", 64, 32)),
        ("dtype = 'F16'", Spec.of("F16", 64, 32), W),
        ("tensors = ['other', '*.WEIGHT', 'w[xy]']\ncount = 0", W, None),
    ],
)
def test_what_matches(tmp_path, match, good, bad):
    recipe = toml(tmp_path, f"[[rule]]\n{match}\nuse = 'gwk'")
    assert chosen(recipe, "wx", good) == "gwk"
    assert chosen(recipe, "w.weight" if bad is None else "wx", bad or good) == "lossless"


def test_safe(tmp_path):
    norm, bias = ("a.norm.weight", Spec.of("F32", 64, 32)), ("a.bias", Spec.of("F32", 4096))
    small, whole = ("a.weight", Spec.of("F32", 31, 33)), ("a.weight", Spec.of("I32", 64, 32))
    for text, kept in (("", True), ("safe = true", True), ("safe = false", False)):
        recipe = toml(tmp_path, f"[[rule]]\nuse = 'gwk'\n{text}")
        for name, spec in (norm, bias, small, whole):
            choice = recipe.choose(name, spec)
            assert (choice.method.name == "lossless") is kept and bool(choice.why) is kept
        assert chosen(recipe, "a.weight") == "gwk"
    assert chosen(read_recipe("gwk"), *bias) == "lossless" and chosen(read_recipe("lossless", ["*=gwk"]), *bias) == "gwk"


@pytest.mark.parametrize(
    "text, name, options",
    [
        ("n:m", "n:m", {"n": 2, "m": 4}),
        ("n:m:n=1,m=8, axis = 0", "n:m", {"n": 1, "m": 8, "axis": 0}),
        ("wfn:delta=0.05", "wfn", {"delta": 0.05}),
        (
            "joint-rank-k:keep=0.5,factors={codec='uniform',bits=8}",
            "joint-rank-k",
            {"keep": 0.5, "factors": {"codec": "uniform", "bits": 8}},
        ),
        ("joint-rank-k:groups=[['q','k'],['a,b','c']]", "joint-rank-k", {"groups": [["q", "k"], ["a,b", "c"]]}),
        ("joint-rank-k:factors={codec=uniform}", "joint-rank-k", None),
        ("pruned:scope=model,keep=0.1,share_masks=true", "pruned", {"scope": "model", "keep": 0.1, "share_masks": True}),
        ("pruned:keep=1", "pruned", {"keep": 1}),
        ("pruned:", "pruned", {"keep": None}),
    ],
)
def test_options_as_text(text, name, options):
    if options is None:  # what is no TOML is a string, and a string is no config
        with pytest.raises(RecipeError, match="expected a config"):
            read_recipe(text)
        return
    (rule,) = read_recipe(text).rules
    assert rule.method.name == name and rule.safe and rule.match == Match()
    assert {key: getattr(rule.method, key) for key in options} == options


def test_codecs_as_methods():
    (rule,) = read_recipe("uniform:bits=4,per=column").rules
    assert rule.method.config == {"codec": "uniform", "bits": 4, "per": "column"}
    assert not read_recipe("lossless").rules
    for text in ("nonsense", "wfn:delta", "wfn:delta=0.1,3", "n:m:q=2", "n:k"):
        with pytest.raises(RecipeError):
            read_recipe(text)
    for rule in ("=wfn", "a=", "a", "a.*=nonsense"):
        with pytest.raises(RecipeError):
            read_recipe("lossless", [rule])


@pytest.mark.parametrize(
    "recipe",
    ["uniform:bits=many", "pruned:keep=0.5,values={codec='uniform',bits='x'}", "pruned:keep=0.5,values={codec='unifrm'}", "raw:x=1"],
)
def test_configs_that_are_wrong(tmp_path, recipe):
    save_file({"w": np.random.default_rng(0).standard_normal((64, 64)).astype(np.float32)}, tmp_path / "m.safetensors")
    with pytest.raises(RecipeError, match="w: "):
        wcodec.encode(tmp_path / "m.safetensors", recipe=recipe)
    assert not (tmp_path / "m.wcodec").exists()


# catalogue


def test_catalogue():
    """Every method says what it does and what each of its options means."""
    entries = list(catalogue())
    assert [entry.name for entry in entries] == list(METHODS)
    for entry in entries:
        assert 10 < len(entry.summary) < 160
        assert [option.name for option in entry.options] == [
            its.name for its in fields(METHODS[entry.name]) if its.init and its.name != "importance"
        ]
        assert all(option.help and option.kind for option in entry.options), entry
        assert not any(option.required for option in entry.options)
        json.dumps(entry.to_json())
        for option in entry.options:  # defaults are of the type that is asked for
            METHODS[entry.name].check_types({option.name: option.default})
    assert method_entry("wfn").importance and not method_entry("mpo").importance
    assert [entry.name for entry in codecs()] == list(CODECS) and all(entry.summary for entry in codecs())
    assert not codec_entry("lowrank").exact and codec_entry("rans").lossless
    for found in (method_entry, codec_entry):
        with pytest.raises(RecipeError):
            found("nonsense")


def test_commands(capsys):
    assert main(["recipes"]) == 0
    out = capsys.readouterr().out
    assert all(f"{name} " in out for name in METHODS) and "delta=0.1" in out and "n=2, m=4" in out
    for name in METHODS:
        assert main(["recipes", name]) == 0
        out = capsys.readouterr().out
        assert out.startswith(f"{name}: ") and all(key in out for key in METHODS[name].options() if key != "importance")
    assert main(["recipes", "--json"]) == 0
    assert [row["name"] for row in json.loads(capsys.readouterr().out)["recipes"]] == list(METHODS)
    assert main(["codecs"]) == 0
    rows = capsys.readouterr().out.splitlines()[1:]
    assert [row.split()[0] for row in rows[: len(CODECS)]] == list(CODECS)
    assert main(["codecs", "uniform"]) == 0 and "bits" in capsys.readouterr().out
    assert main(["codecs", "lowrank", "--json"]) == 0 and json.loads(capsys.readouterr().out)["exact"] is False
    for command in ("recipes", "codecs"):
        assert main([command, "nonsense"]) == 2
        assert main([command, "--help"]) == 0
        out, err = capsys.readouterr()
        assert "nonsense" in err and "Examples:" in out and out.count(f"wcodec {command}") >= 3
    assert main(["encode", "--help"]) == 0 and "wcodec recipes" in capsys.readouterr().out


def test_progress_counts_what_methods_read(tmp_path):
    """What is done never falls behind, and all is done in the end, also where methods read everything first."""
    rng = np.random.default_rng(0)
    save_file({f"{i}.weight": rng.standard_normal((64, 64)).astype(np.float32) for i in range(3)}, tmp_path / "m.safetensors")
    size = 3 * 64 * 64 * 4
    for recipe, passes in (("lossless", 0), ("wfn", 1), ("pruned:keep=0.3,scope=model", 3)):
        seen: list[tuple[int, int]] = []
        tell = partial(lambda found, *its: found.append(its), seen)
        wcodec.encode(tmp_path / "m.safetensors", tmp_path / "m.wcodec", recipe=recipe, force=True, progress=tell)
        shares = [done / total for done, total in seen]
        assert shares == sorted(shares) and seen[-1][0] == (passes + 1) * size and seen[-1][1] - seen[-1][0] < 1000


def test_importance_that_makes_no_difference_is_told(tmp_path):
    save_file({"weight": np.random.default_rng(0).standard_normal((64, 64)).astype(np.float32)}, tmp_path / "m.safetensors")
    given = {"weight": np.ones((64, 64), np.float32)}
    for recipe, rules, ignored in (
        ("lossless", (), "lossless"),
        ("uniform", (), "uniform"),
        ("mpo", ("*=codebook:values=4",), "mpo"),
        ("uniform", ("a.*=mpo", "b.*=uniform:bits=4"), "mpo, uniform"),
        ("gwk", ("*=codebook:values=4",), None),
    ):
        for importance, want in ((None, None), (given, ignored)):
            report = wcodec.encode(
                tmp_path / "m.safetensors", tmp_path / "m.wcodec", recipe=recipe, rules=rules, importance=importance, force=True
            )
            assert [note for note in report.notes if "importance" in note] == (
                [f"importance makes no difference to {want}"] if want else []
            )


@pytest.mark.parametrize(("name", "codec"), CODECS.items())
def test_options_that_a_codec_does_not_know(name, codec):
    """A misspelt option is refused by name, and the examples use none that are not declared."""
    spec = Spec.of("F32" if codec.suits(Spec.of("F32", 8, 8)) else "U8" if codec.suits(Spec.of("U8", 8, 8)) else "BOOL", 8, 8)
    with pytest.raises(RecipeError, match="bitz"):
        encode_part(np.zeros(64, spec.dtype.storage), spec, make_env(), {"codec": name, "bitz": 4})
    if codec.options is not None and name != "concat":
        assert {key for example in codec.examples for key in example} <= codec.options
