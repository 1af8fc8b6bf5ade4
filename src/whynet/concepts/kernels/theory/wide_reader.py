"""Steps whose limit of infinite width is known, and what is kept while a network is read."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

from torch import Tensor, fx, nn

from whynet.concepts.kernels.theory.wide_activations import Activation
from whynet.core.errors import InputError
from whynet.models.piecewise_linear_tracing import describe

Kind = Literal[
    "input",
    "affine",
    "activation",
    "flatten",
    "pool",
    "add",
    "scale",
    "channels",
    "layer-norm",
    "rms-norm",
]

NATURAL = (1.0, 2.0, 1.0 / 3.0)
"""Variances times the fan-in of common initializations: LeCun's, He's, PyTorch's own."""

DEVIATIONS = 4.0
"""Standard errors within which a measured variance is taken for one of them."""

ODDS = math.log(20.0)
"""How much likelier a way to draw a parameter must be to be taken without a note."""

WANTED = (
    "dense layers, convolutions without groups, average pooling, sums of branches, layer and RMS "
    "normalization over features, batch normalization as it is made, and smooth or rectified "
    "activations between them (whynet.kernels.ntk measures the kernel of this very network)"
)

UNKNOWN = {
    "attention": "whose limit, of many heads, is not computed here",
    "transformer": "made of attention, whose limit, of many heads, is not computed here",
    "maxpool": "the mean of whose maxima has no closed form here; average pooling has",
    "max_pool": "the mean of whose maxima has no closed form here; average pooling has",
    "gru": "which reads its weights once a step, and has no limit that is known here",
    "lstm": "which reads its weights once a step, and has no limit that is known here",
    "rnn": "which reads its weights once a step, and has no limit that is known here",
}
"""Part of the name of a module or function, and why it is refused."""


def unknown(name: str) -> str:
    """Return why a module or function of this name has no limit."""
    low = name.lower()
    found = (why for part, why in UNKNOWN.items() if part in low)
    return next(found, "which has no limit that is known here")


@dataclass(frozen=True)
class Law:
    """How weights enter a layer `factor · W h + bias_factor · b`.

    Attributes:
        gain: fan-in times the squared factor.
        variance: of an entry of W.
        bias: squared factor of the bias; 0 without one.
        bias_variance: of an entry of b.
        trained: whether W is trained.
        bias_trained: whether b is trained.

    """

    gain: float
    variance: float
    bias: float = 0.0
    bias_variance: float = 0.0
    trained: bool = True
    bias_trained: bool = True


@dataclass(frozen=True)
class Step:
    """One step; states of earlier ones go in.

    Attributes:
        kind: what it does.
        inputs: numbers of the steps that go in.
        name: for messages.
        law: of an affine step, or of scale and shift of a normalization, channel by channel.
        window: kernel, stride and padding, a number a side, of a convolution or a pool; empty of a
            dense layer, and of a pool over everything.
        activation: of an activation.
        factor: of a scale, of `channels`; what is added under the root of a normalization.

    """

    kind: Kind
    inputs: tuple[int, ...]
    name: str
    law: Law | None = None
    window: tuple[tuple[int, ...], ...] = ()
    activation: Activation | None = None
    factor: float = 1.0


@dataclass(frozen=True)
class Reading:
    """A parameter times a number."""

    name: str
    factor: float
    tensor: Tensor


@dataclass
class Reader:
    """Reads the nodes of a traced network one by one.

    Attributes:
        module: a private copy.
        trained: which parameters are trained.
        variances: of parameters by name, given by the caller.
        steps: read so far.
        notes: on variances.
        found: what each node is: the number of a step, or a parameter.
        used: parameters that a layer has.
        habits: of how many parameters it was clear in which way they were drawn: their variance
            times the fan-in, 0 where that is 1 whatever the fan-in.
        gaussian: of each step, whether its values are Gaussian in the limit.
        above: of each step, all that it hangs on.

    """

    module: nn.Module
    trained: Mapping[str, bool]
    variances: Mapping[str, float]
    steps: list[Step] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)
    found: dict[fx.Node, int | Reading] = field(default_factory=dict)
    used: set[str] = field(default_factory=set)
    habits: Counter[float] = field(default_factory=Counter)
    gaussian: list[bool] = field(default_factory=list)
    above: list[frozenset[int]] = field(default_factory=list)

    def add(self, step: Step, *, gaussian: bool) -> int:
        """Add a step and return its number."""
        above: frozenset[int] = frozenset()
        for number in step.inputs:
            above |= self.above[number] | {number}
        self.steps.append(step)
        self.gaussian.append(gaussian)
        self.above.append(above)
        return len(self.steps) - 1

    def refusal(self, node: fx.Node, why: str) -> InputError:
        """Return the error that names a node."""
        module = self.module.get_submodule(str(node.target)) if node.op == "call_module" else None
        return InputError("model", f"{describe(node, module)}, {why}", WANTED)

    def step_of(self, node: fx.Node, value: Any) -> int:
        """Return the number of the step that an argument of a node is.

        Raises:
            InputError: it is something else.

        """
        number = self.found.get(value) if isinstance(value, fx.Node) else None
        if not isinstance(number, int):
            raise self.refusal(node, "applied to something that is no layer's output")
        return number

    def law(self, node: fx.Node, weight: Reading, bias: Reading | None, fan: int) -> Law:
        """Read the law of a layer's weights.

        Raises:
            InputError: another layer has the same weights.

        """
        for one in (weight, bias):
            if one is not None and one.name in self.used:
                raise self.refusal(node, f"with the parameter {one.name!r} of another layer again")
            if one is not None:
                self.used.add(one.name)
        gain = fan * weight.factor**2
        variance = self.variance(weight, fan)
        if bias is None:
            return Law(gain, variance, trained=self.trained[weight.name])
        return Law(
            gain,
            variance,
            bias.factor**2,
            self.variance(bias, fan),
            self.trained[weight.name],
            self.trained[bias.name],
        )

    def variance(self, reading: Reading, fan: int) -> float:
        """Return the variance of a parameter's entries: given, recognized, or measured.

        Where few entries fit several ways to draw them, one that other parameters were drawn in is
        taken for likelier.
        """
        if reading.name in self.variances:
            return float(self.variances[reading.name])
        values = reading.tensor.detach().double()
        measured = float(values.square().mean())
        if measured == 0:
            return 0.0
        count = values.numel()
        error = math.sqrt(2 / count)
        known = {0.0: 1.0, **{natural: natural / fan for natural in NATURAL}}
        fits = {key: v for key, v in known.items() if abs(measured / v - 1) <= DEVIATIONS * error}
        if fits:
            # Log-likelihoods of normal entries; ways that the network has not shown are unlikely.
            likely = {
                key: -count / 2 * (math.log(v) + measured / v)
                - (ODDS if self.habits and not self.habits[key] else 0.0)
                for key, v in fits.items()
            }
            taken = max(likely, key=lambda key: likely[key])
            close = {fits[key] for key in fits if likely[key] > likely[taken] - ODDS}
            others = sorted(close - {fits[taken]})
            if others:
                self.notes.append(
                    f"The variance of {reading.name} is taken for {fits[taken]:.3g}; its {count:,} "
                    f"entries fit {', '.join(f'{v:.3g}' for v in others)} as well: give it by "
                    "`variances`."
                )
            else:
                self.habits[taken] += 1
            return fits[taken]
        self.notes.append(
            f"The variance of {reading.name}, {measured:.3g}, is measured on its "
            f"{count:,} entries, with a relative error of about {error:.1g}."
        )
        return measured
