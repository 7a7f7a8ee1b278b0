"""What is known of sections, as people read it."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from wcodec.cli.text import counted, human, percent, shape_of, table

if TYPE_CHECKING:
    from wcodec.api.inspector import FileReport

Facts = Mapping[str, Any]
SHOWN = 2
"""Sections of a tensor that its line has room for."""


def brief(facts: Sequence[Facts]) -> str:
    """Return what is known of a tensor's sections in one line, inner ones after outer ones."""
    texts = [f"{'.'.join(its['path'])}: {told(its)}" if its["path"] else told(its) for its in facts[:SHOWN]]
    more = len(facts) - SHOWN
    return "; ".join(texts) + (f"; {more} more" if more > 0 else "")


def told(facts: Facts) -> str:
    """Return what is known of one section."""
    return KINDS[facts["codec"]](facts)


def _codebook(its: Facts) -> str:
    blocks = f" of {its['width']}" if its["width"] > 1 else ""
    found = f"{its['centroids']:,} centroids{blocks}"
    return f"{found}, {its['used']:,} used, {its['unique']:,} values, {its['entropy']:.2f} bits" if "used" in its else found


def _sparse(its: Facts) -> str:
    sizes = its["sizes"]
    shared = its.get("shared", {})
    parts = {"positions": "mask", "values": "values", "fill": "fill"}
    where = [f"{what} {_size(sizes, shared, part)}" for what, part in parts.items() if part in sizes]
    fill = f", else {its['fill']}" if "fill" in its else ""
    return f"{100 * its['fraction']:.1f} % kept{fill}, {its['pattern']} ({', '.join(where)})"


def _size(sizes: Mapping[str, int], shared: Mapping[str, int], part: str) -> str:
    return f"in resource {shared[part]}" if part in shared else human(sizes[part])


def _lowrank(its: Facts) -> str:
    return f"rank {its['rank']}, {_parameters(its)}"


def _tensortrain(its: Facts) -> str:
    return f"bonds {shape_of(its['bonds']) if its['bonds'] else 'none'}, {_parameters(its)}"


def _parameters(its: Facts) -> str:
    shared = f", {its['own']:,} its own" if its["own"] != its["parameters"] else ""
    return f"{its['parameters']:,} parameters{shared} for {its['dense']:,}"


def _uniform(its: Facts) -> str:
    found = f"{its['levels']:,} levels per {its['per']}" if its["per"] != "tensor" else f"{its['levels']:,} levels"
    return f"{found}, {its['used']:,} used, {its['entropy']:.2f} bits" if "used" in its else found


def _sum(its: Facts) -> str:
    return f"layers of {' + '.join(human(size) for size in its['sizes'].values())}"


KINDS: Mapping[str, Callable[[Facts], str]] = {
    "codebook": _codebook,
    "sparse": _sparse,
    "lowrank": _lowrank,
    "tensortrain": _tensortrain,
    "uniform": _uniform,
    "sum": _sum,
}


def resources(report: FileReport) -> Iterator[str]:
    """Yield a line for every shared section."""
    if not report.resources:
        return
    cells = []
    for its in report.resources:
        name = f"resource {its.index}" if report.files == 1 else f"resource {its.index} of {its.file}"
        cells.append((name, its.dtype, shape_of(its.shape), its.codec, human(its.size), counted(its.used, "tensor")))
    yield ""
    yield from table(("shared", "dtype", "shape", "codec", "size", "used by"), cells, ("size",))


def accounting(report: FileReport) -> Iterator[str]:
    """Yield what papers would count, beside what the same tensors take in the file."""
    if report.network is not None and report.network.weights:
        its = report.network
        yield ""
        yield f"network: {its.unique:,} unique values, {its.entropy:.2f} bits each, in {its.weights:,} weights under codebooks"
    if not report.accounts:
        return
    cells = []
    for account in report.accounts:
        size = round(account.counted)
        ratio = f"{account.ratio:.1f}×" if account.counted else ""
        cells.append((account.rule, f"{account.tensors:,}", human(account.dense), human(size), ratio, human(account.stored)))
    yield ""
    header = ("paper accounting: counts only", "tensors", "dense", "counted", "ratio", "stored in all")
    yield from table(header, cells, header[1:])
    raw = sum(row.raw_size for row in report.tensors)
    if not report.partial:
        yield f"whole file, positions, tables, scales, manifest and all: {human(report.size)}, {percent(report.size, raw)} of {human(raw)}"
