"""Inspect: what a file holds, without decoding anything unless asked to recount."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from wcodec.api.accounting import Account, Ledger
from wcodec.api.crew import Crew
from wcodec.api.facts import Facts, Place, facts_of, references, walk
from wcodec.api.files import matches, open_shards
from wcodec.api.opened import Opened, inside
from wcodec.api.report import TUNED, TensorRow, describe
from wcodec.api.statistics import Network, Recount, cost
from wcodec.api.trees import stored_bytes, tree
from wcodec.api.work import make_env, thread_count
from wcodec.codecs import Env, check
from wcodec.errors import UnknownCodec, UnsupportedVersion
from wcodec.types import DTYPES, Limits, Section, Spec

Progress = Callable[[int, int], None]
KEEPING = frozenset({"raw", "const", "bitpack", "rans", "zstd", "planes", "concat"})
"""Codecs that keep whatever they are given, and that no method approximates by."""


@dataclass(frozen=True, slots=True)
class ResourceRow:
    """A section that tensors share; its bytes are in no tensor's size. used: tensors of this file that reach it, aliases not counted."""

    file: str
    index: int
    dtype: str
    shape: list[int]
    codec: str
    size: int
    used: int

    def to_json(self) -> dict[str, Any]:
        """Return plain values."""
        return {key: getattr(self, key) for key in self.__slots__}


@dataclass(frozen=True, slots=True)
class FileReport:
    """What a checkpoint holds. size: whole-file bytes. partial: only chosen tensors. trees: name → nested sections as plain values.

    facts: name, or file and resource → what is known of its sections (``api/facts.py``). network: of all codebooks, when recounted.
    accounts: what papers would count.
    """

    path: str
    files: int
    size: int
    partial: bool
    metadata: dict[str, str]
    encoder: dict[str, Any]
    tensors: list[TensorRow]
    trees: dict[str, Any]
    facts: dict[str, list[Facts]] = field(default_factory=dict)
    resources: list[ResourceRow] = field(default_factory=list)
    accounts: list[Account] = field(default_factory=list)
    network: Network | None = None

    @property
    def lossless(self) -> bool:
        """Whether every tensor decodes to its source's bytes."""
        return all(row.lossless for row in self.tensors)

    @property
    def bits(self) -> float:
        """Bits per element: of the whole file, or of the chosen tensors' streams."""
        count = sum(8 * row.raw_size // DTYPES[row.dtype].bits for row in self.tensors)
        return 8 * (sum(row.size for row in self.tensors) if self.partial else self.size) / count if count else 0.0

    def summary(self) -> str:
        """Return ``lossless`` or how much was changed, such as ``lossy: 4.02 bpw, 210 of 291 tensors changed``."""
        changed = sum(not row.lossless for row in self.tensors)
        return f"lossy: {self.bits:.2f} bpw, {changed} of {len(self.tensors)} tensors changed" if changed else "lossless"

    def to_json(self) -> dict[str, Any]:
        """Return plain values."""
        keys = ("path", "files", "size", "metadata", "encoder", "lossless", "bits")
        rows = [row.to_json() | {"facts": self.facts.get(row.name, []), "tree": self.trees.get(row.name)} for row in self.tensors]
        shared = [row.to_json() | {"facts": self.facts.get(shared_name(row.file, row.index), [])} for row in self.resources]
        more: dict[str, Any] = {"resources": shared, "accounting": [account.to_json() for account in self.accounts]}
        more["network"] = None if self.network is None else self.network.to_json()
        return {key: getattr(self, key) for key in keys} | {"summary": self.summary()} | more | {"tensors": rows}


def _kept(section: Section) -> bool:
    """Tell whether a section holds values as they were given: then it was they that differed from the source's."""
    return section.codec in KEEPING and all(_kept(its) for its in section.parts.values() if isinstance(its, Section))


def shared_name(file: str, index: int) -> str:
    """Return what ``facts`` call a resource; no tensor's name has a control character."""
    return f"{file}\0{index}"


def inspect(
    path: str | Path,
    *,
    include: Sequence[str] = (),
    stats: bool = False,
    threads: int | None = None,
    kernels: str = "auto",
    limits: Limits | None = None,
    progress: Progress | None = None,
) -> FileReport:
    """Describe a ``.wcodec`` file or folder of shards: codecs, sizes, metadata, what papers would count. Codecs may be unknown.

    stats: decode indices, symbols and masks, and recount values in use, entropies and kept elements. Without it nothing is decoded, and
    the options after it do not matter: as in ``verify``. Raises FormatError, OSError; with stats LimitExceeded.
    """
    with ExitStack() as stack:
        found = open_shards(Path(path), stack, threads=1, kernels=kernels if stats else "numpy", limits=limits)
        survey = _Survey()
        for file, opened in found.items():
            survey.file(file, opened, include)
        network = _recount(survey.places, stack, thread_count(threads), limits, progress) if stats else None
        size = sum(opened.reader.size for opened in found.values())
        return FileReport(
            str(path), len(found), size, bool(include), survey.metadata, survey.encoder, survey.rows, survey.trees,
            survey.facts, survey.resources, survey.ledger.rows(network if survey.plain_books() else None), network,
        )  # fmt: skip


class _Survey:
    """What is learned of file after file. places: what can be recounted: the file, the section, and what is known of it."""

    def __init__(self) -> None:
        self.rows: list[TensorRow] = []
        self.trees: dict[str, Any] = {}
        self.metadata: dict[str, str] = {}
        self.encoder: dict[str, Any] = {}
        self.facts: dict[str, list[Facts]] = {}
        self.resources: list[ResourceRow] = []
        self.ledger = Ledger()
        self.places: list[tuple[Opened, str, Place, Facts]] = []

    def file(self, file: str, opened: Opened, include: Sequence[str]) -> None:
        """Look at the chosen tensors of a file, then at its resources."""
        self.metadata |= opened.metadata() or {}
        self.encoder |= opened.reader.manifest.encoder or {}
        trained = TUNED in str((opened.reader.manifest.encoder or {}).get("recipe", ""))
        env = make_env("numpy", opened.reader, Limits(2**63))  # nothing is decoded in it
        used: dict[int, int] = {} if include else dict.fromkeys(range(len(opened.reader.manifest.resources)), 0)
        known: set[int] = set()
        for name in opened.offset_keys():
            if not matches(name, include):
                continue
            record, alias = opened.reader.target(name), opened.alias(name)
            tuned = trained and not record.lossless and _kept(record.section)
            row = TensorRow.of(name, record.spec, record.section, record.lossless, record.digest, tuned=tuned)
            self.trees[name] = tree(record.section)
            if alias is not None:
                self.rows.append(replace(row, name=opened.reader.names[alias.index]).alias_of(name))
                continue
            self.rows.append(row)
            reached = references(record.section, opened.reader.resource)
            used |= {index: used.get(index, 0) + 1 for index in reached}
            with inside(opened.path), inside(name):
                if self._describe(name, record.section, record.spec, opened, env):
                    self.ledger.add(file, record.section, record.spec, env)
                    known |= reached
        for index in sorted(used):
            its = opened.reader.resource(index)
            size, shape = stored_bytes(its.section), list(its.spec.shape)
            self.resources.append(ResourceRow(file, index, its.spec.dtype.name, shape, describe(its.section), size, used[index]))
            if index in known:
                self._describe(shared_name(file, index), its.section, its.spec, opened, env)

    def plain_books(self) -> bool:
        """Tell whether all codebooks are whole tensors of single values, as where weights times entropy is counted."""
        found = [(name, facts) for name, its in self.facts.items() for facts in its if facts["codec"] == "codebook"]
        return all(facts["width"] == 1 and not facts["path"] and "\0" not in name for name, facts in found)

    def _describe(self, name: str, section: Section, spec: Spec, opened: Opened, env: Env) -> bool:
        """Gather the facts of a section and of those below it; tell whether all its codecs are known."""
        try:
            check(section, spec, env)
        except (UnknownCodec, UnsupportedVersion):
            return False
        found = [(place, facts) for place in walk(section, spec, env) if (facts := facts_of(place, env)) is not None]
        if found:
            self.facts[name] = [facts for _, facts in found]
        self.places += [(opened, name, place, facts) for place, facts in found]
        return True


def _recount(
    places: list[tuple[Opened, str, Place, Facts]], stack: ExitStack, threads: int, limits: Limits | None, progress: Progress | None
) -> Network:
    """Decode what facts can be recounted from, and add to them."""
    crew = stack.enter_context(Crew(threads))
    total, done = sum(cost(place, opened.env) for opened, _, place, _ in places), 0

    def advance(size: int) -> None:
        nonlocal done
        done += size
        if progress is not None:
            progress(done, total)

    recount = Recount(crew, advance, [])
    for opened, name, place, facts in places:
        with inside(opened.path), inside(name.replace("\0", ": resource ")):
            if name in opened.reader.manifest.index:  # a resource is checked with the tensors that use it
                opened.record(name)
            recount.add(facts, place, opened.env)
    return Network.of(recount.values)


__all__ = ["FileReport", "Progress", "ResourceRow", "inspect"]
