"""Weights in the order in which the kernels read them, packed once for each version of them."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any
from weakref import ref

from torch import Tensor

from elman.backends import limits
from elman.backends.cpu.codegen.code import Vector
from elman.backends.cpu.codegen.layout import Pack
from elman.backends.cpu.memory.fingerprint import fingerprint
from elman.backends.locks import Deferred, Rank, held_at_fork
from elman.compiler.ir.interpret import evaluate
from elman.compiler.ir.nodes import Node, walk
from elman.compiler.plan import Plan

#: Of weights that a plan computes anew for each run, so many versions are kept.
VERSIONS = 8


class Packer:
    """Packs the weights of one kernel. prepared: those of its plan."""

    def __init__(self, packs: Sequence[Pack], ty: Vector, prepared: Sequence[Node]) -> None:
        self.packs, self.ty = packs, ty
        self._named = [(pack.name, self._count(pack)) for pack in packs]
        sources = [group.product.args[1] for pack in packs for group in pack.groups]
        reached = set(walk(sources, until=set(prepared)))
        self._read = [i for i, node in enumerate(prepared) if node in reached]
        #: Whether they lie somewhere else at each run.
        self._computed = any(prepared[i].args for i in self._read)

    def _count(self, pack: Pack) -> int:
        """How many numbers a pack has."""
        units = pack.width * self.ty.lanes
        depth = pack.groups[0].product.args[0].size
        return -(-pack.size // units) * units * len(pack.groups) * depth

    def pack(
        self, plan: Plan, weights: Sequence[Tensor]
    ) -> Iterable[tuple[tuple[str, int], Tensor]]:
        """((name, count of numbers), packed) for each pack; made anew where the weights have
        changed."""
        if not self.packs:
            return ()
        read = [weights[i] for i in self._read]
        seen = tuple([fingerprint(weight) for weight in read])
        owner = id(self), seen if self._computed else _place(read)
        packed = kept.get(owner, seen)
        if packed is None:
            packed = [self._packed(pack, plan, weights) for pack in self.packs]
            if self._computed:
                kept.put(owner, seen, packed, [self], most=VERSIONS)
            else:
                kept.put(owner, seen, packed, [self, *(w.untyped_storage() for w in read)])
        return zip(self._named, packed, strict=True)

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


def _place(weights: Sequence[Tensor]) -> tuple[Any, ...]:
    """Where weights lie: a layer's stay there while they change."""
    return tuple([n for w in weights for n in (w.untyped_storage()._cdata, w.storage_offset())])


# ------------------------------------------------------------------ what is kept

#: Whose packed weights they are: the packer's id, and where its weights lie.
_Owner = tuple[int, tuple[Any, ...]]


@dataclass(frozen=True)
class _Version:
    """seen: what it was packed from. needs: what lives as long as it can be wanted again."""

    seen: tuple[Any, ...]
    packed: list[Tensor]
    needs: list[ref[Any]]

    @property
    def bytes(self) -> int:
        return sum(t.numel() * t.element_size() for t in self.packed)


class Kept:
    """The packed weights of all layers: one version for each, until the layer goes; the least
    recently used go first where all take more than ``limit`` bytes."""

    def __init__(self, limit: int) -> None:
        self.limit, self.bytes = limit, 0
        self._versions: OrderedDict[_Owner, _Version] = OrderedDict()
        self.lock = Deferred(self._drop)

    def get(self, owner: _Owner, seen: tuple[Any, ...]) -> list[Tensor] | None:
        """The owner's, if they were packed from what is seen now."""
        with self.lock:
            version = self._versions.get(owner)
            if version is None or version.seen != seen:
                return None
            self._versions.move_to_end(owner)
            return version.packed

    def put(
        self,
        owner: _Owner,
        seen: tuple[Any, ...],
        packed: list[Tensor],
        needs: list[Any],
        most: int | None = None,
    ) -> None:
        """Keep a version instead of the owner's last, as long as all that it needs is there.

        most: how many of its packer's are kept, if not all.
        """
        gone = [ref(each, lambda _: self.lock.ask(owner)) for each in needs]
        version = _Version(seen, packed, gone)
        with self.lock:
            self._drop(owner)
            self._versions[owner] = version
            self.bytes += version.bytes
            if most is not None:
                mine = [each for each in self._versions if each[0] == owner[0]]
                for each in mine[:-most]:
                    self._drop(each)
            while self.bytes > self.limit and len(self._versions) > 1:
                self._drop(next(iter(self._versions)))

    def clear(self) -> None:
        """Let go of all."""
        with self.lock:
            for owner in list(self._versions):
                self._drop(owner)

    def _drop(self, owner: _Owner) -> None:
        version = self._versions.pop(owner, None)
        if version is not None:
            self.bytes -= version.bytes


kept = Kept(limits.memory() // 8)
held_at_fork(Rank.PACKING, kept.lock.lock)
