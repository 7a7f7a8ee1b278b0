"""The pages and the code: the same rules, codecs, dtypes and numbers, and worked examples that really work."""

from __future__ import annotations

import re

import numpy as np
import pytest
from battery import BACKENDS, FIXTURES, ROOT, breaks, decoded, make_env, same_bits

from wcodec.codecs import CODECS, check
from wcodec.types import DTYPES, MemoryStream, Section, Spec

SPEC = ROOT / "spec"
NAMES = ("C", "E", "G", "NET", *(name.upper() for name in CODECS))
RULE = rf"(?:{'|'.join(NAMES)})-\d+"
PAGES = {path: path.read_text() for path in SPEC.rglob("*.md")}
CODE = {path: path.read_text() for path in (ROOT / "wcodec").rglob("*.py")}


def defined() -> list[str]:
    return [rule for text in PAGES.values() for rule in re.findall(rf"^- \*\*({RULE})\*\* ", text, re.M)]


def test_rules_are_defined_once():
    found = defined()
    assert len(set(found)) == len(found)
    for prefix in {rule.split("-")[0] for rule in found}:
        numbers = sorted(int(rule.split("-")[1]) for rule in found if rule.startswith(f"{prefix}-"))
        assert numbers == list(range(1, len(numbers) + 1)), f"{prefix} has a gap"


def test_every_page_has_rules_of_its_own():
    homes = {"container.md": "C", "entropy.md": "E", "rng.md": "G", "net.md": "NET"} | {f"{name}.md": name.upper() for name in CODECS}
    for path, text in PAGES.items():
        found = {rule.split("-")[0] for rule in re.findall(rf"^- \*\*({RULE})\*\* ", text, re.M)}
        assert found == ({homes[path.name]} if path.name in homes else set()), path.name


def test_rules_that_the_code_raises():
    raised = {rule for text in CODE.values() for rule in re.findall(rf'"({RULE})"', text)}
    assert raised == set(defined())


def test_every_rule_has_a_bad_case():
    assert {path.name.split("_")[0] for path in (FIXTURES / "bad").iterdir()} == set(defined())


def test_rules_that_are_mentioned_exist():
    for path, text in (PAGES | CODE).items():
        assert set(re.findall(rf"\b{RULE}\b", text)) <= set(defined()), path.name


def test_every_codec_has_page_line_and_fixtures():
    assert {path.stem for path in (SPEC / "codecs").glob("*.md")} == set(CODECS)
    listed = re.findall(r"^\| `(\w+)` \| .* \| \[codecs/(\w+)\.md\]", (SPEC / "README.md").read_text(), re.M)
    assert [name for name, _ in listed] == [name for _, name in listed] and {name for name, _ in listed} == set(CODECS)
    versions = re.search(r"^\| 1\.0 \| `([\w ]+)`", (SPEC / "versioning.md").read_text(), re.M)[1].split()
    assert set(versions) == {name for name, codec in CODECS.items() if codec.since == 0}
    for name, codec in CODECS.items():
        for i in range(len(codec.examples)):
            assert (FIXTURES / "v1" / f"{name}-{i}" / "case.wcodec").exists()
        assert any(path.name.startswith(f"{name.upper()}-1_") for path in (FIXTURES / "bad").iterdir())


@pytest.mark.parametrize("name", CODECS)
def test_every_codec_page_has_its_sections(name):
    text = PAGES[SPEC / "codecs" / f"{name}.md"]
    found = re.findall(r"\*\*(Purpose|Params|Parts|Decoding|Rules|Exactness|Access|Encoder guidance|Worked example)\*\*", text)
    assert found == ["Purpose", "Params", "Parts", "Decoding", "Rules", "Exactness", "Access", "Encoder guidance", "Worked example"]
    params = text.split("**Params**")[1].split("**Parts**")[0].split("**Decoding**")[0]
    assert set(re.findall(r"^\| `(\w+)` \|", params, re.M)) == set(CODECS[name].params)


def test_dtypes():
    line = next(line for line in PAGES[SPEC / "container.md"].splitlines() if line.startswith("`F64 "))
    assert line.strip("`,").split() == list(DTYPES)


def test_links_lead_somewhere():
    for path, text in PAGES.items():
        for link in re.findall(r"\]\(([^)#]+)\)", text):
            assert (path.parent / link).exists(), f"{path.name}: {link}"


def test_nothing_is_left_to_write():
    for path, text in PAGES.items():
        assert not re.search(r"WORKED|TODO|TBD|FIXME", text), path.name


def worked(name: str) -> tuple[str, list[bytes]]:
    """The worked example of a page, and the bytes quoted in it."""
    text = PAGES[SPEC / "codecs" / f"{name}.md"].split("**Worked example**")[1]
    return text, [bytes.fromhex(found) for found in re.findall(r"`((?:[0-9a-f]{2})(?: [0-9a-f]{2})*)`", text)]


def raw(data: bytes) -> Section:
    return Section("raw", {}, {"data": MemoryStream(np.frombuffer(data, np.uint8))})


def stream(name: str, data: bytes, **params) -> Section:
    return Section(name, params, {"data": MemoryStream(np.frombuffer(data, np.uint8))})


def raws(**parts: bytes) -> dict:
    return {name: raw(data) for name, data in parts.items()}


def floats(*values: float) -> list[int]:
    return np.array(values, np.float32).view(np.uint32).tolist()


WORKED = {
    "raw": (Spec.of("U16", 2), [1, 258], lambda b: stream("raw", b[0])),
    "const": (Spec.of("F32", 3), [0x3F800000] * 3, lambda b: Section("const", {"value": b[0]})),
    "bitpack": (Spec.of("U8", 3), [1, 2, 7], lambda b: stream("bitpack", b[0], bits=3)),
    "rans": (Spec.of("U8", 4), [3, 3, 4, 3], lambda b: stream("rans", b[0], precision=8, lanes=0, block=1)),
    "zstd": (Spec.of("U8", 4), [0, 0, 0, 0], lambda b: stream("zstd", b[0])),
    "planes": (
        Spec.of("BF16", 2),
        [0x3F80, 0xBF80],
        lambda b: Section("planes", {"rest": 8, "sign": 1}, {"symbol": raw(bytes([127, 127])), "rest0": raw(bytes([0, 1]))}),
    ),
    "uniform": (
        Spec.of("BF16", 2, 2),
        [0xBF00, 0, 0x3F1A, 0x3E9A],
        lambda b: Section("uniform", {"levels": 4, "zero": 1, "per": "row"}, {"symbols": raw(b[0]), "steps": raw(b[1])}),
    ),
    "trellis": (
        Spec.of("BF16", 8),
        [0, 0x3F80, 0xBF80, 0, 0, 0x3F00, 0x3F00, 0x3F80],
        lambda b: Section(
            "trellis", {"zero": 2, "step": 0x3F000000}, {"symbols": stream("rans", b[0], precision=8, lanes=0, block=1, trellis=2)}
        ),
    ),
    "nwc": (
        Spec.of("F32", 2, 2),
        floats(1.25, 0, -0.5, 4.75),
        lambda b: Section("nwc", {"zero": 8, "step": 0x3E800000, "net_size": 42}, raws(latents=b[0], net=b[1])),
    ),
    "sum": (Spec.of("F16", 2), [0x3D00, 0], lambda b: Section("sum", {"layers": 2}, {"0": raw(b[0]), "1": raw(b[1])})),
    "lowrank": (
        Spec.of("F32", 2, 3),
        floats(3, 4, 5, 6, 8, 10),
        lambda b: Section("lowrank", {"rank": 1}, {"left": raw(b[0]), "right": raw(b[1])}),
    ),
    "tensortrain": (
        Spec.of("F32", 3, 2),
        floats(1, 2, 3, 4, 2, 4),
        lambda b: Section("tensortrain", {"rows": [2, 2], "columns": [1, 2], "bonds": [1]}, {"0": raw(b[0]), "1": raw(b[1])}),
    ),
    "concat": (
        Spec.of("U8", 3),
        [5, 7, 7],
        lambda b: Section("concat", {"lengths": [1, 2]}, {"0": raw(b[0]), "1": Section("const", {"value": b[1]})}),
    ),
    "codebook": (
        Spec.of("BF16", 2, 3),
        [0x3F80, 0xBF80, 0, 0, 0x4000, 0x3F80],
        lambda b: Section("codebook", {"centroids": 2, "width": 2}, {"centroids": raw(b[0]), "indices": raw(b[1])}),
    ),
    "sparse": (Spec.of("U8", 4), [0, 7, 0, 9], lambda b: Section("sparse", {"kept": 2}, raws(mask=b[0], values=b[1]))),
    "gaps": (
        Spec.of("BOOL", 6),
        [0, 1, 1, 0, 0, 1],
        lambda b: Section("gaps", {"kept": 3, "block": 4}, raws(counts=b[0], gaps=b[1])),
    ),
    "bitmap": (
        Spec.of("BOOL", 10),
        [1, 0, 0, 0, 0, 0, 0, 1, 0, 1],
        lambda b: Section("bitmap", {"block": 8}, raws(bits=b[0], counts=b[1])),
    ),
    "nm": (Spec.of("BOOL", 6), [0, 1, 0, 1, 1, 1], lambda b: Section("nm", {"n": 2, "m": 4, "axis": 0}, raws(patterns=b[0]))),
    "gs": (
        Spec.of("BOOL", 2, 4),
        [1, 0, 0, 1, 0, 1, 1, 0],
        lambda b: Section("gs", {"banks": 2, "per_row": 1, "groups": 2}, raws(counts=b[0], gaps=b[1])),
    ),
    "draw": (
        Spec.of("BOOL", 8),
        [1, 1, 1, 1, 0, 0, 0, 1],
        lambda b: Section("draw", {"seed": 7, "id": 1, "stream": 0, "threshold": 2**31}),
    ),
    "philox": (
        Spec.of("F32", 5),
        [0xBBA28980, 0xBEA8124E, 0xBE414F14, 0xBE8CA626, 0x3EC6524A],
        lambda b: Section("philox", {"seed": 7, "id": 1, "stream": 0, "kind": "uniform", "scale": 0x3F000000}),
    ),
    "mt19937": (
        Spec.of("F32", 4),
        [0x3D8DDAE0, 0x3E3A7BD8, 0x3EC3F5DC, 0x3E863EF2],
        lambda b: Section("mt19937", {"seed": 5489, "offset": 0, "low": 0xBF000000, "high": 0x3F000000}),
    ),
}


OPTIONS = {
    "rans": {"precision": 8, "lanes": 0}, "planes": {"rest": 8}, "concat": None, "zstd": None, "bitpack": None, "codebook": None,
    "draw": {"seed": 7, "id": 1, "threshold": 2**31}, "philox": {"seed": 7, "id": 1, "scale": 0.5},
    "mt19937": {"seed": 5489, "low": -0.5, "high": 0.5},
    "gaps": {"block": 4}, "bitmap": {"block": 8}, "gs": {"banks": 2, "per_row": 1},
}  # fmt: skip
"""What the encoder is asked for to make the worked examples."""


@pytest.mark.parametrize("name", CODECS)
def test_worked_examples(name):
    spec, values, build = WORKED[name]
    text, data = worked(name)
    assert spec.dtype.name in text and f"[{', '.join(map(str, spec.shape))}]" in text
    section = build(data)
    for backend in BACKENDS:
        env = make_env(backend)
        check(section, spec, env)
        assert same_bits(decoded(section, spec, env), np.array(values, spec.dtype.storage))
    options = OPTIONS.get(name, {})
    options = options if CODECS[name].lossless else None
    if options is not None:
        made = CODECS[name].encode(np.array(values, spec.dtype.storage), spec, make_env(), **options)
        for key in section.params:
            assert made.params[key] == section.params[key]
        if "data" in section.parts:
            with made.parts["data"].read(0, made.parts["data"].size) as its:
                assert its.tobytes() == data[0]
    if name == "planes":
        symbol = raw(np.array([254, 255], "<u2").tobytes())
        other = Section("planes", {"rest": 7, "sign": 2}, {"symbol": symbol, "rest0": raw(bytes(2))})
        assert "symbols 254, 255; rest0 0, 0" in text and "With rest 7, sign 2" in text
        check(other, spec, make_env())
        assert same_bits(decoded(other, spec, make_env()), np.array(values, np.uint16))
    if name == "rans":
        pieces = b"".join(data[1:5])
        assert pieces == data[0], "the explanation goes through all bytes in order"
        breaks("E-6", stream("rans", data[0] + b"\0\0", precision=8, lanes=0, block=1), spec)
