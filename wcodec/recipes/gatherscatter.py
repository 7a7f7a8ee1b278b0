"""Choose gather-scatter masks: GS(B, k) of spec/codecs/gs.md (Load-balanced Gather-scatter Patterns, arXiv 2112.10898)."""

from __future__ import annotations

import numpy as np

from wcodec.errors import EncodeError
from wcodec.types import U8, U32


def gather_scatter(keys: U32, banks: int, groups: int) -> U8:
    """Return a mask [bundles, rows, columns] that keeps ``groups`` of the largest keys in every lane, an equal share of them per row.

    Raises EncodeError where the bundles have no room for so many.
    """
    bundles, high, cols = keys.shape
    groups = min(groups, high * (cols // banks))
    if groups * banks % high:
        raise EncodeError(f"{groups} groups of {banks} do not divide among {high} rows")
    mask = np.zeros(keys.shape, np.uint8)
    for lane in range(banks):
        its = keys[:, :, lane::banks].reshape(bundles, -1)
        kept = np.zeros(its.shape, np.uint8)
        order = np.argsort(np.iinfo(np.uint32).max - its, axis=1, kind="stable")[:, :groups]
        np.put_along_axis(kept, order, 1, axis=1)
        mask[:, :, lane::banks] = kept.reshape(bundles, high, -1)
    share = groups * banks // high
    for bundle in np.flatnonzero((mask.sum(2, dtype=np.int64) != share).any(1)):
        _balance(mask[bundle], keys[bundle], banks, share)
    return mask


def _balance(mask: U8, keys: U32, banks: int, share: int) -> None:
    """Move kept elements between rows, within lanes, at the least loss, until every row keeps its share.

    A row with too many keeps more than one with too few in some lane, so that there is always a move.
    """
    wide = keys.astype(np.int64)
    while True:
        kept = mask.sum(1, dtype=np.int64)
        rich, poor = int(np.argmax(kept)), int(np.argmin(kept))
        if kept[rich] == share and kept[poor] == share:
            return
        give = np.where(mask[rich] == 1, wide[rich], np.iinfo(np.int64).max >> 2)
        take = np.where(mask[poor] == 0, wide[poor], -1)
        moves = []
        for lane in range(banks):
            out, into = lane + banks * int(np.argmin(give[lane::banks])), lane + banks * int(np.argmax(take[lane::banks]))
            if mask[rich, out] and not mask[poor, into]:
                moves.append((int(give[out] - take[into]), out, into))
        _, out, into = min(moves)
        mask[rich, out], mask[poor, into] = 0, 1
