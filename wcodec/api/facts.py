"""What params and extents tell of a section, without decoding anything: one small function per codec."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from math import prod
from typing import Any, TypeAlias

from wcodec.api.trees import part_sizes
from wcodec.codecs import Env
from wcodec.codecs.base import find
from wcodec.codecs.matrix import matrix_shape
from wcodec.types import Part, Ref, Resource, Section, Spec

Facts: TypeAlias = dict[str, Any]
"""Plain values. path: names of the parts that lead to the section. sizes: part → stored bytes. shared: part → resource."""


@dataclass(frozen=True, slots=True)
class Place:
    """A section below a tensor or resource, and the names of the parts that lead to it."""

    path: tuple[str, ...]
    section: Section
    spec: Spec


def walk(section: Section, spec: Spec, env: Env, path: tuple[str, ...] = ()) -> Iterator[Place]:
    """Yield a checked section and all below it, but for resources."""
    yield Place(path, section, spec)
    for name, its in find(section, env).parts(section, spec).items():
        part = section.parts[name]
        if isinstance(its, Spec) and isinstance(part, Section):
            yield from walk(part, its, env, (*path, name))


def references(section: Section, resource: Callable[[int], Resource]) -> set[int]:
    """Return the resources that a section reaches, directly or through others; its codecs may be unknown."""
    found: set[int] = set()
    for part in section.parts.values():
        if isinstance(part, Section):
            found |= references(part, resource)
        elif isinstance(part, Ref) and part.index not in found:
            found |= {part.index} | references(resource(part.index).section, resource)
    return found


def resolve(part: Part, env: Env) -> Section:
    """Return a part that is a section, or the section of the resource that it names."""
    if isinstance(part, Ref | Resource):
        return (env.resource(part.index) if isinstance(part, Ref) else part).section
    assert isinstance(part, Section)
    return part


def facts_of(place: Place, env: Env) -> Facts | None:
    """Describe a checked section; None where there is nothing to say but its codec."""
    if (describe := KINDS.get(place.section.codec)) is None:
        return None
    shared = {name: part.index for name, part in place.section.parts.items() if isinstance(part, Ref)}
    found = {"path": list(place.path), "codec": place.section.codec, **describe(place, env)}
    return found | {"sizes": part_sizes(place.section)} | ({"shared": shared} if shared else {})


def _codebook(place: Place, env: Env) -> Facts:
    return {"centroids": place.section.params["centroids"], "width": place.section.params.get("width", 1)}


def _sparse(place: Place, env: Env) -> Facts:
    kept, count = place.section.params["kept"], place.spec.count
    mask, fill = resolve(place.section.parts["mask"], env), place.section.parts.get("fill")
    found = {"kept": kept, "fraction": kept / count if count else 0.0, "mask": mask.codec, "pattern": pattern_of(mask)}
    return found | ({} if fill is None else {"fill": resolve(fill, env).codec})


def pattern_of(mask: Section) -> str:
    """Return the pattern that a mask must have, by its codec."""
    its = mask.params
    if mask.codec == "nm":
        return f"{its['n']}:{its['m']} along axis {its['axis']}"
    if mask.codec == "gs":
        return f"GS({its['banks']}, {its['per_row']}){' with rows in any order' if its.get('scatter') else ''}"
    return f"drawn from seed {its['seed']}" if mask.codec == "draw" else "unstructured"


def _lowrank(place: Place, env: Env) -> Facts:
    (rows, cols), rank = matrix_shape(place.spec), place.section.params["rank"]
    sizes = {"left": rows * rank, "right": rank * cols}
    return {"rank": rank} | _parameters(sizes, place)


def _tensortrain(place: Place, env: Env) -> Facts:
    expected = find(place.section, env).parts(place.section, place.spec)
    sizes = {name: prod(its.shape) for name, its in expected.items() if isinstance(its, Spec)}
    return {"bonds": list(place.section.params["bonds"])} | _parameters(sizes, place)


def _parameters(sizes: Mapping[str, int], place: Place) -> Facts:
    """parameters: of all factors. own: of those that no other tensor shares. dense: of what they replace."""
    own = sum(size for name, size in sizes.items() if not isinstance(place.section.parts[name], Ref))
    return {"parameters": sum(sizes.values()), "own": own, "dense": prod(place.spec.shape)}


def _uniform(place: Place, env: Env) -> Facts:
    return {"levels": place.section.params["levels"], "per": place.section.params.get("per", "tensor")}


def _sum(place: Place, env: Env) -> Facts:
    return {"layers": place.section.params["layers"]}


KINDS: Mapping[str, Callable[[Place, Env], Facts]] = {
    "codebook": _codebook,
    "sparse": _sparse,
    "lowrank": _lowrank,
    "tensortrain": _tensortrain,
    "uniform": _uniform,
    "sum": _sum,
}
