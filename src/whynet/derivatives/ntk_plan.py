"""How a network's tangent kernel is computed: which uses of parameters are taken in which way."""

from __future__ import annotations

from dataclasses import dataclass, replace

from whynet.derivatives.parameter_uses import Key
from whynet.derivatives.use_gradients import Axis, PartPlan


@dataclass(frozen=True)
class NtkPlan:
    """How a network's kernel is computed.

    Attributes:
        parts: parameters whose uses are known, and how each is taken.
        axes: of each use, where the rows stand.
        keys: what the uses must be at every call.
        rest: names of the other trainable parameters, taken by Jacobians.
        batched: whether these Jacobians are taken for many rows at once.
        together: whether many outputs are taken back through the network at once.
        outputs: number of outputs of an example.
        row_numbers: numbers held for a row of a block.
        peak_numbers: numbers held for a row while its gradients are computed.
        pair_work: multiplications that a pair of rows costs, outputs contracted.
        miss: largest gap to plain autograd on mixtures of the outputs of the probed rows, relative
            to the largest.
        watched: the parameters whose uses are recorded; all where None.

    """

    parts: tuple[PartPlan, ...]
    axes: tuple[Axis, ...]
    keys: tuple[Key, ...]
    rest: tuple[str, ...]
    batched: bool
    together: bool
    outputs: int
    row_numbers: int
    peak_numbers: int
    pair_work: int
    miss: float = 0.0
    watched: frozenset[str] | None = None

    @property
    def layers(self) -> tuple[str, ...]:
        """Paths of the dense layers that are used once, on rows, kept as factors, in order."""
        return tuple(
            part.names[0].removesuffix("weight").removesuffix(".")
            for part in sorted(self.parts, key=lambda part: part.uses)
            if part.single and part.way == "factors"
        )

    def only(self, layer: str) -> NtkPlan:
        """Return the plan of the parameters of one of the layers alone.

        Nothing before the layer is recorded then, nor differentiated.
        """
        parts = [p for p in self.parts if p.names[0].rpartition(".")[0] == layer]
        names = frozenset(name for part in parts for name in part.names)
        kept = [i for i, key in enumerate(self.keys) if names & set(key[1])]
        held = sum(part.row_numbers for part in parts)
        return replace(
            self,
            parts=tuple(replace(p, uses=tuple(kept.index(i) for i in p.uses)) for p in parts),
            axes=tuple(self.axes[i] for i in kept),
            keys=tuple(_restricted(self.keys[i], names) for i in kept),
            rest=(),
            row_numbers=held,
            peak_numbers=max(held, sum(part.peak_numbers for part in parts)),
            pair_work=held,
            watched=names,
        )


def _restricted(key: Key, names: frozenset[str]) -> Key:
    """Return the key that a use has where only some parameters are recorded."""
    kind, used, dimensions = key
    return kind, tuple(name if name in names else None for name in used), dimensions
