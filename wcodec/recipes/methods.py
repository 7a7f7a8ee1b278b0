"""The methods that recipes name: one line each."""

from __future__ import annotations

from collections.abc import Mapping

from wcodec.recipes.base import Lossless, Method
from wcodec.recipes.codebooks import GWK, PQ, BinQuant
from wcodec.recipes.dropback import DropBack
from wcodec.recipes.joint_rank_k import JointRankK
from wcodec.recipes.mpo import Mpo
from wcodec.recipes.pruned import GatherScatter, NofM, Pruned
from wcodec.recipes.wfn import WFN

METHODS: Mapping[str, type[Method]] = {
    method.name: method for method in (Lossless, WFN, GWK, BinQuant, PQ, DropBack, Pruned, NofM, GatherScatter, JointRankK, Mpo)
}
