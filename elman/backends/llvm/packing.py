"""Weights in the order in which the kernels read them, packed once for each version of them."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Iterator, Sequence
from threading import Lock
from typing import Any

from torch import Tensor

from elman.backends.llvm.checksum import checksum
from elman.backends.llvm.code import Vector
from elman.backends.llvm.layout import Pack
from elman.compiler.interpret import evaluate
from elman.compiler.plan import Plan

#: How many sets of weights are kept packed: as many layers may share one plan; and how many bytes
#: they may take, beyond the newest.
KEPT, BYTES = 8, 64 << 20


class Packer:
    """Packs the weights of one kernel."""

    def __init__(self, packs: Sequence[Pack], ty: Vector) -> None:
        self.packs, self.ty = packs, ty
        self._kept: OrderedDict[int, tuple[Any, list[Tensor]]] = OrderedDict()
        self._lock = Lock()

    def pack(self, plan: Plan, weights: Sequence[Tensor]) -> Iterator[tuple[str, Tensor]]:
        """(name, packed) for each pack; made anew where the weights have changed."""
        if not self.packs:
            return iter(())
        matrices = [w for w in weights if w.dim() == 2]
        place = matrices[0].data_ptr() if matrices else 0
        seen = tuple([checksum(w) for w in matrices])
        with self._lock:
            kept = self._kept.get(place)
        if kept is None or kept[0] != seen:
            kept = seen, [self._packed(pack, plan, weights) for pack in self.packs]
            self._keep(place, kept)
        return zip((pack.name for pack in self.packs), kept[1], strict=True)

    def _keep(self, place: int, kept: tuple[Any, list[Tensor]]) -> None:
        size = sum(t.numel() * self.ty.bytes for t in kept[1])
        with self._lock:
            self._kept[place] = kept
            self._kept.move_to_end(place)
            while len(self._kept) > max(1, min(KEPT, BYTES // max(size, 1))):
                self._kept.popitem(last=False)

    def _packed(self, pack: Pack, plan: Plan, weights: Sequence[Tensor]) -> Tensor:
        """[blocks][K][groups][width][lanes], zeros beyond the last unit."""
        values = dict(zip(plan.prepared, weights, strict=True))
        lanes = self.ty.lanes
        units = pack.width * lanes
        blocks = -(-pack.size // units)
        sources = evaluate([g.product.args[1] for g in pack.groups], values)
        depth = sources[0].shape[1]
        room = sources[0].new_zeros(len(sources), blocks * units, depth)
        for target, group, source in zip(room, pack.groups, sources, strict=True):
            target[: pack.size] = source[group.offset : group.offset + pack.size]
        shaped = room.view(len(sources), blocks, pack.width, lanes, depth)
        return shaped.permute(1, 4, 0, 2, 3).contiguous()
