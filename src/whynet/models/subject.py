"""The subject: one private copy of a network with its loss and data, checked once."""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterator, Mapping
from functools import cached_property, partial
from typing import Any, Literal

import torch
from torch import Tensor, nn

from whynet.core.errors import InputError
from whynet.core.outcome import NotApplicable
from whynet.core.question import SubjectFacts
from whynet.core.tags import TAGS
from whynet.models.architecture import describe_architecture
from whynet.models.batch_norm import RECALIBRATED, batch_normalized, recalibrated_on
from whynet.models.data.examples import Examples
from whynet.models.fitting_rows import forwarded
from whynet.models.joint_checks import check_together
from whynet.models.losses import Loss, load_loss
from whynet.models.network_checks import (
    built,
    checked_copy,
    plain_copy,
    select_output,
    state_of,
)
from whynet.models.piecewise_linear import PiecewiseLinearGraph, piecewise_linear_graph
from whynet.models.preservation import preserved
from whynet.models.retraining import Log, Trainer, Variation
from whynet.models.token_vectors import TokenVectors, token_vectors
from whynet.models.trajectory import Trajectory

Split = Literal["train", "test"]


class Subject:
    """A network, its loss and its data, as everything in whynet sees them.

    The subject owns a deep copy of the network in evaluation mode, in `dtype` and on `device`;
    the user's own module is never touched. It is frozen: attributes cannot be set after
    construction, and instruments leave its parameters and buffers as they are.

    Args:
        model: a network, or a function without required arguments that returns one.
        train: training data: `Examples`, a pair `(inputs, targets)` of arrays or tensors, a
            `Dataset` or a `DataLoader`.
        test: data that chose nothing about the network; the same forms.
        loss: `cross_entropy`, `bce`, `mse`, a callable `(outputs, targets) -> mean loss`, or a
            `Loss`.
        name: how the network is called in reports; its class name by default.
        initial: weights before training: a state dict, or a network of the same architecture.
        output: which entry of a dict or tuple output to examine.
        device: where to compute.
        dtype: precision to compute in; that of the parameters by default, float32 for networks
            kept in half precision.
        batch_size: rows in memory at a time; memory is bounded by it, not by the data.
        notes: sentences about what was done on the way in, for the report.
        trainer: how the network is built and trained, so that it can be trained again.
        trajectory: record of its training, from `whynet.Recorder`.

    Raises:
        InputError: the network, the data and the loss do not fit together; the sentence names
            the argument, what was found and what is wanted.

    """

    module: nn.Module
    train: Examples | None
    test: Examples | None
    loss: Loss
    name: str
    device: torch.device
    dtype: torch.dtype
    batch_size: int
    notes: tuple[str, ...]
    output: str | int | None
    trainer: Trainer | None
    trajectory: Trajectory | None
    _initial_state: dict[str, Tensor] | None
    _deterministic: bool
    output_shape: tuple[int, ...]

    def __init__(
        self,
        model: nn.Module | Callable[[], nn.Module],
        *,
        train: Any = None,
        test: Any = None,
        loss: str | Callable[[Tensor, Tensor], Tensor] | Loss = "cross_entropy",
        name: str = "",
        initial: Mapping[str, Tensor] | nn.Module | None = None,
        output: str | int | None = None,
        device: str | torch.device = "cpu",
        dtype: torch.dtype | None = None,
        batch_size: int = 512,
        notes: tuple[str, ...] = (),
        trainer: Trainer | None = None,
        trajectory: Trajectory | None = None,
    ) -> None:
        with preserved():
            module = model if isinstance(model, nn.Module) else built(model)
            copied, copy_notes = checked_copy(module, device, dtype)
            parameter = next(copied.parameters(), None)
            values: dict[str, Any] = {
                "module": copied,
                "train": _examples(train, "train"),
                "test": _examples(test, "test"),
                "loss": load_loss(loss),
                "name": name or type(module).__name__,
                "device": torch.device(device),
                "dtype": parameter.dtype if parameter is not None else (dtype or torch.float32),
                "batch_size": _positive(batch_size, "batch_size"),
                "output": output,
                "trainer": trainer,
                "trajectory": trajectory,
                "_initial_state": state_of(initial, copied),
            }
            for key, value in values.items():
                object.__setattr__(self, key, value)
            data_notes = [
                note for data in (self.train, self.test) if data is not None for note in data.notes
            ]
            together = check_together(self)
            object.__setattr__(self, "_deterministic", together.deterministic)
            object.__setattr__(self, "output_shape", together.shape)
            if self._initial_state is not None and batch_normalized(copied):
                copy_notes.append(RECALIBRATED)
            every = dict.fromkeys(
                [*notes, *copy_notes, *data_notes, *self.loss.notes, *together.notes]
            )
            object.__setattr__(self, "notes", tuple(every))

    def __setattr__(self, name: str, value: object) -> None:
        raise AttributeError(f"a Subject is frozen: {name} cannot be set; make another Subject")

    def __repr__(self) -> str:
        return f"Subject({self.name!r}, {self.facts.architecture}, loss={self.loss.name!r})"

    @cached_property
    def parameters(self) -> dict[str, Tensor]:
        """Trainable parameters, detached, tied ones once, in the order of the module."""
        return {
            name: parameter.detach()
            for name, parameter in self.module.named_parameters()
            if parameter.requires_grad
        }

    @cached_property
    def frozen(self) -> dict[str, Tensor]:
        """Frozen parameters and buffers, detached."""
        held = {
            name: parameter.detach()
            for name, parameter in self.module.named_parameters()
            if not parameter.requires_grad
        }
        return held | {name: buffer.detach() for name, buffer in self.module.named_buffers()}

    def forward(self, parameters: Mapping[str, Tensor], inputs: Any) -> Tensor:
        """Evaluate the network at the given trainable parameters; pure, differentiable.

        Args:
            parameters: as `Subject.parameters`, possibly other values.
            inputs: a batch; tuples are passed as positional, dicts as keyword arguments.

        Returns:
            The examined output, of shape `[batch, ...]`.

        """
        # Cloned, since some layers write to their buffers even in evaluation mode.
        held = {name: tensor.clone() for name, tensor in self.frozen.items()}
        args = (
            inputs if isinstance(inputs, tuple) else () if isinstance(inputs, dict) else (inputs,)
        )
        kwargs = inputs if isinstance(inputs, dict) else {}
        outputs = torch.func.functional_call(self.module, {**held, **parameters}, args, kwargs)
        return select_output(outputs, self.output)

    @property
    def any_split(self) -> Split:
        """The test data where there are any, else the training data."""
        return "test" if self.test is not None else "train"

    def examples(self, split: Split) -> Examples:
        """Return the data of a split.

        Raises:
            InputError: there are none.

        """
        data = self.train if split == "train" else self.test
        if data is None:
            raise InputError(split, "no data", f"{split} data for what is asked")
        return data

    def batches(self, split: Split, batch_size: int | None = None) -> Iterator[tuple[Any, Any]]:
        """Iterate over a split in order, on the subject's device and in its precision."""
        yield from self.examples(split).batches(
            batch_size or self.batch_size, device=self.device, dtype=self.dtype
        )

    def outputs(self, split: Split) -> tuple[Tensor, Tensor]:
        """Return all outputs and targets of a split, on the CPU, computed once.

        Memory: one row of outputs for each example. Cost: one forward pass over the split.
        """
        cache: dict[str, tuple[Tensor, Tensor]] = self._outputs
        if split not in cache:
            pairs = [(outputs.cpu(), targets.cpu()) for outputs, targets in self.answers(split)]
            cache[split] = (torch.cat([p[0] for p in pairs]), torch.cat([p[1] for p in pairs]))
        return cache[split]

    @torch.no_grad()
    def answers(self, split: Split) -> Iterator[tuple[Tensor, Tensor]]:
        """Iterate over outputs and targets of a split; out of memory halves the batch, with a note.

        Raises MemoryError where one row does not fit.
        """
        yield from forwarded(partial(self.forward, self.parameters), self.batches(split), self._say)

    def _say(self, note: str) -> None:
        object.__setattr__(self, "notes", tuple(dict.fromkeys([*self.notes, note])))
        self.__dict__.pop("facts", None)

    @cached_property
    def finite_splits(self) -> set[str]:
        """Splits on which all outputs were found finite, see `check_outputs`."""
        return set()

    @cached_property
    def _outputs(self) -> dict[str, tuple[Tensor, Tensor]]:
        return {}

    @cached_property
    def tags(self) -> frozenset[str]:
        """The facts of `whynet.core.tags` that hold for this subject."""
        data = self.test if self.test is not None else self.train
        embedded = data is not None and isinstance(token_vectors(self), TokenVectors)
        held = {
            "test-data": self.test is not None,
            "train-data": self.train is not None,
            "classification": "classification" in self.loss.task,
            "regression": self.loss.task == "regression",
            "float-inputs": data is not None and data.is_float,
            "token-inputs": embedded,
            "movable-inputs": embedded or (data is not None and data.is_float),
            "deterministic": self._deterministic,
            "trainable": bool(self.parameters),
            "piecewise-linear": isinstance(self.graph, PiecewiseLinearGraph),
            "initialization": self._initial_state is not None,
            "retrainable": self.trainer is not None and self.train is not None,
            "trajectory": self.trajectory is not None
            or (self.trainer is not None and self.trainer.logs and self.train is not None),
        }
        return frozenset(tag for tag, holds in held.items() if holds)

    def lacks(self, needs: tuple[str, ...]) -> NotApplicable | None:
        """Say why an instrument with these needs does not apply, or None where it does."""
        for tag in needs:
            if tag == "piecewise-linear" and isinstance(self.graph, NotApplicable):
                return self.graph
            if tag not in self.tags:
                return NotApplicable(f"This does not apply: {TAGS[tag]}.")
        return None

    @cached_property
    def graph(self) -> PiecewiseLinearGraph | NotApplicable:
        """The network as a piecewise-linear graph in float64, or why it is none."""
        found = self.plain()
        return found if isinstance(found, NotApplicable) else piecewise_linear_graph(*found)

    def plain(self) -> tuple[nn.Module, Tensor] | NotApplicable:
        """Return the network and an input in float64, as they are traced, or why they cannot be."""
        data = self.test if self.test is not None else self.train
        if data is None or not data.is_float:
            return NotApplicable(f"This does not apply: {TAGS['float-inputs']}.")
        inputs, _ = data.take([0], dtype=torch.float64)
        assert isinstance(inputs, Tensor)
        return plain_copy(self.module, inputs, self.output), inputs[0]

    @cached_property
    def facts(self) -> SubjectFacts:
        """Plain numbers and words about network and data, for questions and reports."""
        data = self.test if self.test is not None else self.train
        return SubjectFacts(
            name=self.name,
            architecture=describe_architecture(self.module),
            parameters=sum(p.numel() for p in self.module.parameters()),
            trainable=sum(p.numel() for p in self.parameters.values()),
            task=self.loss.task,
            classes=self._classes(),
            train_examples=0 if self.train is None else self.train.count,
            test_examples=0 if self.test is None else self.test.count,
            input_shape=() if data is None or data.input_shape is None else data.input_shape,
            loss=self.loss.name,
            notes=self.notes,
        )

    def _classes(self) -> int:
        if self.loss.task == "binary classification":
            return 2
        if self.loss.task != "classification" or (self.test is None and self.train is None):
            return 0
        return int(self.output_shape[-1])

    @cached_property
    def initial(self) -> Subject | None:
        """The same network before training, or None where that is unknown.

        Running statistics of batch normalization at initialization are not those of the network
        that was trained; they are recalibrated on the training data, on this copy.
        """
        if self._initial_state is None:
            return None
        module = copy.deepcopy(self.module)
        module.load_state_dict(self._initial_state)
        if batch_normalized(module) and not recalibrated_on(
            module, self.train, self.batch_size, self.device, self.dtype
        ):
            return None
        return self.replaced(module)

    def replaced(
        self,
        module: nn.Module,
        *,
        dtype: torch.dtype | None = None,
        batch_size: int | None = None,
    ) -> Subject:
        """Return a subject with another network of the same form, precision or batch size."""
        changes = {"dtype": dtype or self.dtype, "batch_size": batch_size or self.batch_size}
        return self._with(module, **changes)

    def _with(self, module: nn.Module, **changes: Any) -> Subject:
        kept = {
            "train": self.train,
            "test": self.test,
            "loss": self.loss,
            "name": self.name,
            "initial": self._initial_state,
            "output": self.output,
            "device": self.device,
            "dtype": self.dtype,
            "batch_size": self.batch_size,
            "notes": self.notes,
            "trainer": self.trainer,
            "trajectory": self.trajectory,
        }
        return Subject(module, **{**kept, **changes})

    def retrained(
        self, variation: Variation, log: Callable[[nn.Module], Log] | None = None
    ) -> Subject:
        """Return the subject of the network built and trained anew, with what it was trained on.

        It has the same test data, knows its initial weights, and cannot be trained again itself.
        Cost: one training run; variations that were run before come from memory.

        Args:
            variation: how training differs from the user's own run.
            log: see `Trainer.run`.

        Raises:
            InputError: no training function or data are known, or it cannot be varied so.
            Diverged: training ended in weights that are not finite.

        """
        if self.trainer is None:
            raise InputError("trainer", "no training function", "a Trainer, to train it again")
        done = self.trainer.run(variation, self.examples("train"), device=self.device, log=log)
        changes = {"train": done.train, "initial": done.initial_state}
        return self._with(done.module, **changes, trainer=None, trajectory=None)

    def alone(self, module: nn.Module | None = None, *, train: Examples | None = None) -> Subject:
        """Return the network (or another of its form) alone: its start and training unknown."""
        held = self.module if module is None else module
        return self._with(held, train=train or self.train, initial=None, trainer=None)

    def started(self, initial: nn.Module) -> Subject:
        """Return this subject as if it had started at the weights of another network."""
        return self._with(self.module, initial=initial)

    def in_precision(self, dtype: torch.dtype) -> Subject:
        """Return this subject computing in another precision (float64 for checks)."""
        return self if dtype == self.dtype else self.replaced(self.module, dtype=dtype)


def _examples(data: Any, argument: str) -> Examples | None:
    return None if data is None else Examples.from_any(data, argument=argument)


def _positive(value: int, argument: str) -> int:
    if isinstance(value, bool) or not isinstance(value, int) or value < 1:
        raise InputError(argument, repr(value), "a whole number of at least 1")
    return value
