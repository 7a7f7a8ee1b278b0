"""Masks: positions on every backend and in every window, sizes next to the entropy, damage that is refused."""

from __future__ import annotations

import sys

import numpy as np
import pytest
from battery import BACKENDS, MASKS, altered, breaks, decoded, make_env, pass_battery, raw, same_bits
from hypothesis import given, settings
from hypothesis import strategies as st
from kernels import ORACLE, at_end_of_page, each, needs_native
from strategies import masks, n_of_m

from wcodec.codecs import CODECS, base, check
from wcodec.codecs.integers.smallest import smallest
from wcodec.codecs.integers.wide import fit_wide
from wcodec.codecs.masks.smallest_mask import smallest_mask
from wcodec.coding import patterns
from wcodec.coding.layouts import Bundles
from wcodec.coding.masks import to_gaps
from wcodec.coding.tokens import Alphabet
from wcodec.errors import Corrupt, EncodeError
from wcodec.types import Ref, Resource, Section, Spec

FITTING = [(name, options) for name in MASKS for options in CODECS[name].examples]


def entropy(count: int, kept: int) -> float:
    """Bytes of an unstructured mask."""
    p = np.array([kept, count - kept]) / count
    return float(-(p[p > 0] * np.log2(p[p > 0])).sum()) * count / 8


def size(part) -> int:
    return sum(size(child) for child in part.parts.values()) if isinstance(part, Section) else part.size


@pytest.mark.parametrize(("codec", "options"), FITTING, ids=str)
@given(data=st.data())
@settings(max_examples=40)
def test_positions(codec, options, data):
    """Positions of any window are those of the decoded bytes, from the codec's own method and from the one for all codecs."""
    spec, x = data.draw(masks(codec, **options))
    section = CODECS[codec].encode(x, spec, make_env(), **options)
    plain = CODECS["bitpack"].encode(x, spec, make_env())
    for backend in BACKENDS:
        env = make_env(backend, resource=lambda index: Resource(spec, section))
        check(section, spec, env)
        assert same_bits(decoded(section, spec, env), x)
        for _ in range(3):
            start = data.draw(st.integers(0, x.size))
            stop = data.draw(st.integers(start, x.size))
            if start == stop:
                continue
            for part in (section, plain, Ref(0), Resource(spec, section)):
                before, found = base.positions(part, spec, env, start, stop)
                assert before == x[:start].sum() and found.dtype == np.uint32
                assert np.array_equal(found, np.flatnonzero(x[start:stop]))


def test_positions_of_long_masks(monkeypatch):
    """Windows far in, across runs and the directory of the general method."""
    monkeypatch.setattr(base, "RANKED", 1 << 10)
    monkeypatch.setattr("wcodec.codecs.masks.common.RUN", 1 << 9)
    rng = np.random.default_rng(0)
    x = (rng.random(30_000) < 0.1).astype(np.uint8)
    spec = Spec.of("BOOL", x.size)
    for codec, options in (("gaps", {"block": 300}), ("bitmap", {"block": 1024}), ("raw", {}), ("rans", {})):
        section = CODECS[codec].encode(x, Spec.of("U8", x.size) if codec == "rans" else spec, make_env(), **options)
        its = Spec.of("U8", x.size) if codec == "rans" else spec
        for start, stop in ((0, 1), (1023, 1024), (1024, 2049), (29_999, 30_000), (777, 29_001)):
            before, found = base.positions(section, its, make_env(), start, stop)
            assert before == x[:start].sum() and np.array_equal(found, np.flatnonzero(x[start:stop]))
            assert same_bits(decoded(section, its, make_env(), start, stop), x[start:stop])


@pytest.mark.parametrize("count", [100_000, 1_000_000])
@pytest.mark.parametrize("p", [0.5, 0.1, 0.02, 0.002])
def test_sizes(count, p):
    """An unstructured mask takes at most 1.03 times its entropy, and 48 bytes for tables and states."""
    x = (np.random.default_rng(count).random(count) < p).astype(np.uint8)
    section = smallest_mask(x, Spec.of("BOOL", count), make_env())
    assert size(section) <= 1.03 * entropy(count, int(x.sum())) + 48, section


def test_structured_sizes():
    """2:4 takes at most 3 bits a group, with values at random close to log2 6."""
    spec = Spec.of("BOOL", 512, 512)
    x = n_of_m(np.random.default_rng(0), spec.shape, 2, 4, 1)
    section = smallest_mask(x, spec, make_env())
    assert section.codec == "nm" and size(section) <= spec.count / 4 * 2.6 / 8 + 200
    x[np.flatnonzero(x)[::100]] = 0
    assert smallest_mask(x, spec, make_env()).codec != "nm"
    loose = smallest_mask(x, spec, make_env(), loose=True)
    assert loose.codec == "nm" and (decoded(loose, spec, make_env()) >= x).all()


@given(st.integers(0, 2**32 - 1), st.sampled_from((3.0, 300.0, 30_000.0, 3e6)), st.sampled_from(("U16", "U32")))
@settings(max_examples=25)
def test_wide_integers(seed, scale, dtype):
    """Integers of many kinds survive rans with the options that were found for them, and cost little more than their entropy."""
    x = np.random.default_rng(seed).exponential(scale, 5000)
    spec = Spec.of(dtype, x.size)
    x = np.minimum(x, 2 ** (16 if dtype == "U16" else 32) - 1).astype(spec.dtype.storage)
    estimate, options = fit_wide(x)
    section = CODECS["rans"].encode(x, spec, make_env(), **options)
    pass_battery("rans", options, spec, x, [(77, 999)])
    assert abs(size(section) - estimate) <= 0.03 * estimate + 200
    if dtype == "U32":
        ideal = 5000 / 8 * np.log2(np.e * scale)  # differential entropy of the exponential distribution
        assert size(section) <= 1.03 * max(ideal, 0) + 250
        assert size(smallest(x, spec, make_env())) <= size(section) + 64


@pytest.mark.parametrize(("n", "m"), [(1, 1), (2, 4), (4, 8), (3, 7), (8, 16), (4, 32), (16, 32)])
def test_patterns(n, m):
    """Numbers of patterns: dense, in order of the highest place first, and back."""
    rng = np.random.default_rng(m)
    mask = n_of_m(rng, (500, m), n, m, 1).reshape(500, m)
    found = patterns.rank(mask)
    assert np.array_equal(patterns.unrank(found, n, m), mask)
    value = (mask.astype(np.uint64) << np.arange(m, dtype=np.uint64)).sum(1)
    assert np.array_equal(np.argsort(value, kind="stable"), np.argsort(found, kind="stable"))


@needs_native
@given(st.integers(0, 2**32 - 1), st.integers(1, 4), st.integers(1, 3), st.integers(0, 30))
def test_masks_of_bundles(seed, high, per_row, cols):
    """What lies in its bundle, and what does not, alike by C and by numpy."""
    rng = np.random.default_rng(seed)
    counts = rng.integers(0, 3, rng.integers(0, 4), np.uint32)
    bundles = Bundles(high * per_row, per_row, counts.size * high, cols)
    for order in (None, rng.permutation(bundles.rows).astype(np.uint32)):
        for dtype in (np.uint8, np.uint16, np.uint32):
            gaps = rng.integers(0, max(1, bundles.steps), int(counts.sum()) * bundles.banks).astype(dtype)
            gaps[rng.random(gaps.size) < 0.01] = np.iinfo(dtype).max
            want = mask_or_rule(ORACLE, gaps, counts, bundles, order)
            assert all(mask_or_rule(backend, gaps, counts, bundles, order) == want for backend in each())


def mask_or_rule(backend, *arguments):
    try:
        return backend.bundle_mask(*arguments).tobytes()
    except Corrupt as error:
        return error.rule


@needs_native
@given(st.integers(0, 2**32 - 1), st.integers(0, 700), st.sampled_from((0, 0.01, 0.1, 0.5, 0.99, 1)))
@settings(max_examples=60)
def test_verbs(seed, count, p):
    rng = np.random.default_rng(seed)
    mask = (rng.random(count) < p) * rng.integers(1, 256, count)
    mask = mask.astype(np.uint8)
    bits = rng.integers(0, 256, count // 8 + 1, np.uint8) if seed % 2 else np.packbits(mask != 0, bitorder="little")
    positions = ORACLE.byte_positions(mask)
    block = int(rng.integers(1, 200))
    counts = np.bincount(positions // block, minlength=-(-count // block)).astype(np.uint32)
    gaps, found = to_gaps(positions, counts, block), np.empty(positions.size, np.uint32)
    assert ORACLE.gap_positions(gaps, counts, block, found) and np.array_equal(found, positions)
    if sys.platform == "linux":  # behind them, memory must not be read
        mask, bits = at_end_of_page(mask), at_end_of_page(bits)
    for backend in each():
        assert np.array_equal(backend.byte_positions(mask), positions)
        its = min(count, 8 * bits.size)
        assert np.array_equal(backend.bit_positions(bits, its), ORACLE.bit_positions(bits, its))
        for dtype in ("u1", "u2", "u4"):
            if not gaps.size or gaps.max() < 2 ** (8 * int(dtype[1])):
                found[:] = 0
                assert backend.gap_positions(gaps.astype(dtype), counts, block, found) and np.array_equal(found, positions)
                far = gaps.astype(dtype)
                if gaps.size:
                    far[int(rng.integers(gaps.size))] = np.iinfo(dtype).max
                mine, other = np.empty_like(found), np.empty_like(found)
                inside = ORACLE.gap_positions(far, counts, block, mine)
                assert backend.gap_positions(far, counts, block, other) == inside and (not inside or np.array_equal(mine, other))
        for dtype in ("u1", "u2", "u4", "u8"):
            values = rng.integers(0, 2**63, positions.size, np.uint64).astype(dtype)
            for clear in (False, True):
                want = rng.integers(0, 2**63, count + 9, np.uint64).astype(dtype)
                out = want.copy()
                ORACLE.scatter(positions, values, want[:count], clear)
                backend.scatter(positions, values, out[:count], clear)
                assert np.array_equal(out, want)


@needs_native
@given(st.integers(0, 2**32 - 1), st.integers(0, 16), st.booleans(), st.booleans(), st.booleans(), st.sampled_from(("u1", "u2", "u4")))
@settings(max_examples=80)
def test_join_tokens(seed, bits, zero, escape, trellis, dtype):
    rng = np.random.default_rng(seed)
    tokens = rng.integers(0, 8, 300).astype(np.uint8)
    raw = rng.integers(0, 2**16, 300).astype("u1" if bits <= 8 else "u2") if bits else None
    alphabet = Alphabet(bits, int(rng.integers(0, 2**32)), zero, 4 if escape else -1, trellis)
    outliers = rng.integers(0, 2**32, int(alphabet.escapes(tokens).sum()) if escape else 0).astype(np.uint32)
    want, out = np.empty(300, dtype), np.empty(300, dtype)
    ORACLE.join_tokens(alphabet, tokens, raw, outliers, want)
    for backend in each():
        backend.join_tokens(alphabet, tokens, raw, outliers, out)
        assert np.array_equal(out, want)


def u32(*x: int) -> Section:
    return raw(np.array(x, np.uint32))


SPEC = Spec.of("BOOL", 20)
ROWS = Spec.of("BOOL", 2, 6)
GAPS = Section("gaps", {"kept": 3, "block": 10}, {"counts": u32(2, 1), "gaps": raw(np.array([4, 4, 9], np.uint8))})
BITMAP = Section("bitmap", {"block": 16}, {"bits": raw(np.array([1, 128, 9], np.uint8)), "counts": u32(2, 2)})
NM = Section("nm", {"n": 2, "m": 4, "axis": 1}, {"patterns": raw(np.array([5, 0, 0, 0], np.uint8))})
GS = Section("gs", {"banks": 4, "per_row": 2, "groups": 1}, {"counts": u32(1), "gaps": raw(np.array([0, 1, 2, 2], np.uint8))})


@pytest.mark.parametrize(
    ("rule", "section", "spec", "bad"),
    [
        (
            "GAPS-1",
            GAPS,
            SPEC,
            [{"kept": 21}, {"kept": -1}, {"kept": None}, {"block": 0}, {"block": 2**24 + 1}, {"bits": 9}, {"bits": True}],
        ),
        ("BITMAP-1", BITMAP, SPEC, [{"block": 0}, {"block": 12}, {"block": None}, {"block": 2**25}, {"block": "8"}]),
        ("NM-1", NM, ROWS, [{"n": 0}, {"n": 5}, {"m": 33}, {"m": 0}, {"axis": 2}, {"axis": -1}, {"axis": None}]),
        ("GS-1", GS, ROWS, [{"banks": 257}, {"banks": 0}, {"per_row": 3}, {"per_row": 1}, {"groups": 4}, {"bits": 4}, {"scatter": 1}]),
    ],
    ids=["gaps", "bitmap", "nm", "gs"],
)
def test_params(rule, section, spec, bad):
    check(section, spec, make_env())
    decoded(section, spec, make_env())
    for params in bad:
        breaks(rule, altered(section, **params), spec)
    breaks(rule, section, Spec.of("U8", *spec.shape))


def test_groups_that_are_all_short():
    """They are as large as the axis, whatever m."""
    for n, m, length in ((16, 32, 1), (3, 9, 5), (7, 20, 4)):
        spec = Spec.of("BOOL", 30, length)
        x = n_of_m(np.random.default_rng(m), spec.shape, n, m, 1)
        pass_battery("nm", {"n": n, "m": m, "axis": 1}, spec, x, [(3, 20)])
        section = CODECS["nm"].encode(x, spec, make_env(), n=n, m=m)
        breaks("NM-2", altered(section, {"patterns": Section("const", {"value": b"\xff" * (1 if m == 9 else 4)})}), spec)


def test_damage():
    """Counts that do not fit, positions beyond their block, patterns that are none: refused with the rule, on every backend."""
    breaks("GAPS-2", altered(GAPS, {"counts": u32(2, 2)}), SPEC)
    breaks("GAPS-2", altered(GAPS, {"counts": u32(2**32 - 1, 4)}), SPEC)
    breaks("GAPS-3", altered(GAPS, {"gaps": raw(np.array([4, 5, 9], np.uint8))}), SPEC)
    breaks("GAPS-3", altered(GAPS, {"counts": u32(1, 2)}), SPEC)
    breaks("GAPS-3", altered(GAPS, {"gaps": raw(np.array([255, 255, 255], np.uint8))}), SPEC)
    breaks("GAPS-3", GAPS, Spec.of("BOOL", 19))
    breaks("GAPS-3", altered(GAPS, {"gaps": raw(np.array([2**32 - 1] * 3, np.uint32))}, bits=32), SPEC)
    breaks("BITMAP-2", altered(BITMAP, {"counts": u32(3, 1)}), SPEC)
    breaks("BITMAP-2", altered(BITMAP, {"counts": u32(2, 3)}), SPEC)
    breaks("BITMAP-3", altered(BITMAP, {"bits": raw(np.array([1, 128, 25], np.uint8))}), SPEC)
    breaks("NM-2", altered(NM, {"patterns": raw(np.array([6, 0, 0, 0], np.uint8))}), ROWS)
    breaks("NM-2", altered(NM, {"patterns": raw(np.array([5, 1, 0, 0], np.uint8))}), ROWS)
    breaks("GS-2", altered(GS, {"counts": u32(2)}), ROWS)
    breaks("GS-3", altered(GS, {"gaps": raw(np.array([4, 1, 2, 2], np.uint8))}), ROWS)
    breaks("GS-3", altered(GS, {"gaps": raw(np.array([0, 1, 0, 2], np.uint8))}), ROWS)
    breaks("GS-3", altered(GS, {"gaps": raw(np.array([0, 1, 1, 2], np.uint8))}), ROWS)
    order = altered(GS, {"rows": u32(1, 0)}, scatter=True)
    plain = decoded(GS, ROWS, make_env()).reshape(2, 6)
    assert np.array_equal(decoded(order, ROWS, make_env()).reshape(2, 6), plain[::-1])
    for rows in ((0, 0), (0, 2), (2**32 - 1, 0)):
        breaks("GS-4", altered(order, {"rows": u32(*rows)}), ROWS)


def test_gather_scatter_with_rows():
    spec = Spec.of("BOOL", 4, 8)
    x = np.array([[1, 0, 1, 0, 0, 0, 0, 0], [0] * 8, [0, 1, 0, 1, 0, 0, 0, 0], [0] * 8], np.uint8).reshape(-1)
    options = {"banks": 4, "per_row": 2, "rows": np.array([0, 2, 1, 3])}
    pass_battery("gs", options, spec, x, [(3, 20)])
    with pytest.raises(EncodeError):
        CODECS["gs"].encode(x, spec, make_env(), banks=4, per_row=2)


def test_masks_that_do_not_fit():
    x = np.array([0, 1, 2, 0], np.uint8)
    for name, options in FITTING:
        with pytest.raises(EncodeError):
            CODECS[name].encode(x, Spec.of("BOOL", 4), make_env(), **options)
    with pytest.raises(EncodeError):
        CODECS["nm"].encode(x[:1], Spec.of("BOOL"), make_env())
    with pytest.raises(EncodeError):
        CODECS["nm"].encode(np.ones(4, np.uint8), Spec.of("BOOL", 4), make_env())
