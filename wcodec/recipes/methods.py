"""The methods that recipes name."""

from __future__ import annotations

from collections.abc import Mapping

from wcodec.recipes.archive import Archive
from wcodec.recipes.base import Lossless, Method
from wcodec.recipes.codebooks import GWK, PQ, BinQuant
from wcodec.recipes.dropback import DropBack
from wcodec.recipes.joint_rank_k import JointRankK
from wcodec.recipes.ladders import Auto
from wcodec.recipes.mpo import Mpo
from wcodec.recipes.nwc import NWC
from wcodec.recipes.pruned import GatherScatter, NofM, Pruned
from wcodec.recipes.trellis import Trellis
from wcodec.recipes.wfn import WFN

OWN: tuple[type[Method], ...] = (
    Lossless,
    Archive,
    Trellis,
    NWC,
    *(WFN, GWK, BinQuant, PQ),  # codebooks
    *(DropBack, Pruned, NofM, GatherScatter),  # sparse tensors
    *(JointRankK, Mpo),  # factors
    Auto,
)

METHODS: Mapping[str, type[Method]] = {method.name: method for method in OWN}
"""Every method, by the name that recipes use."""
