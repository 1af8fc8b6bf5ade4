"""One list of small networks that every conformance test runs through.

Each case is a network of at most a few hundred parameters with 48 training and 32 test rows, all
drawn from seeded generators of its own. Networks are a few gradient steps away from their
initialization, so that no bias is zero and no running statistic trivial.
"""

from __future__ import annotations

import copy
from collections.abc import Callable
from dataclasses import dataclass
from functools import cache
from typing import TYPE_CHECKING, Any, Final

import torch
from tests.case_networks import (
    BufferedNetwork,
    DictOutput,
    EncoderClassifier,
    MaskedTokens,
    RecurrentClassifier,
    ResidualConvolution,
    SequenceTagger,
    TiedWeights,
    TokenClassifier,
    TupleOutput,
    frozen_first_layer,
)
from torch import Tensor, nn
from torch.nn import functional

from whynet.core.seeds import seed_from
from whynet.training.supervised import seeded

if TYPE_CHECKING:
    from whynet.models.retraining import Trainer
    from whynet.models.subject import Subject

TRAIN_ROWS: Final = 48
TEST_ROWS: Final = 32
STEPS: Final = 8
"""Full-batch gradient steps from initialization to the network of a case."""

Inputs = Tensor | dict[str, Tensor]
Data = tuple[Inputs, Tensor]

_SPLITS = frozenset({"train-data", "test-data", "deterministic", "trainable"})
SMOOTH: Final = _SPLITS | {"float-inputs", "movable-inputs", "classification"}
PIECEWISE: Final = SMOOTH | {"piecewise-linear"}
TOKENS: Final = _SPLITS | {"token-inputs", "movable-inputs", "classification"}


@dataclass(frozen=True)
class Case:
    """A small network with its data, its loss and what is true of it.

    Attributes:
        name: its key in `CASES`.
        make: returns the untrained network, drawing from torch's global generator.
        data: returns training and test data, the same at every call.
        loss: name of the loss.
        tags: exactly the tags (`whynet.core.tags`) its subject must carry.
        output: which entry of a dict or tuple output is examined.
        trains: whether `trainer` offers its training function.
        wider: returns the untrained network with its widths multiplied, where it can be widened.

    """

    name: str
    make: Callable[[], nn.Module]
    data: Callable[[], tuple[Data, Data]]
    loss: str = "cross_entropy"
    tags: frozenset[str] = PIECEWISE
    output: str | int | None = None
    trains: bool = False
    wider: Callable[[float], nn.Module] | None = None

    @property
    def train(self) -> Data:
        """Training inputs and targets, float32 or int64."""
        return self.data()[0]

    @property
    def test(self) -> Data:
        """Test inputs and targets, float32 or int64."""
        return self.data()[1]

    def build(self) -> nn.Module:
        """Return a new copy of the network, float32, in evaluation mode; always the same."""
        return copy.deepcopy(_trained(self.name))

    def initial(self) -> nn.Module:
        """Return a new copy of the network before its gradient steps."""
        with seeded(seed_from("case", self.name)):
            return self.make().eval()

    def trainer(self) -> Trainer | None:
        """Return how the case is built and trained, made anew; None where it does not say."""
        if not self.trains:
            return None
        from whynet.models.retraining import Trainer

        wider = self.wider
        if wider is None:
            return Trainer(self.make, self.descend, label=("case", self.name))

        def build(width_factor: float = 1.0) -> nn.Module:
            return wider(width_factor)

        return Trainer(build, self.descend, label=("case", self.name))

    def descend(
        self,
        module: nn.Module,
        inputs: Inputs,
        targets: Tensor,
        learning_rate_factor: float = 1.0,
        steps_factor: float = 1.0,
        log: Callable[[int, dict[str, Any]], None] | None = None,
    ) -> None:
        """Train by a few full-batch gradient steps."""
        trained = [parameter for parameter in module.parameters() if parameter.requires_grad]
        optimizer = torch.optim.SGD(trained, lr=0.1 * learning_rate_factor)
        for step in range(max(1, round(STEPS * steps_factor))):
            optimizer.zero_grad()
            loss = mean_loss(self.loss, self.scores(module, inputs), targets)
            torch.autograd.backward(loss)
            optimizer.step()
            if log is not None:
                log(step, {"loss": float(loss.detach()), "optimizer": optimizer})

    def scores(self, module: nn.Module, inputs: Inputs) -> Tensor:
        """Return the examined output of the network on a batch."""
        outputs = module(**inputs) if isinstance(inputs, dict) else module(inputs)
        scores = outputs if self.output is None else outputs[self.output]
        assert isinstance(scores, Tensor)
        return scores

    def subject(self, dtype: torch.dtype | None = None, **options: Any) -> Subject:
        """Return the case as a `Subject`; options are those of `Subject`.

        Args:
            dtype: precision; float32 where None.
            **options: `batch_size`, `initial`, `name`…

        """
        from whynet.models.subject import Subject

        settings = {"train": self.train, "test": self.test, "loss": self.loss, "name": self.name}
        return Subject(self.build(), output=self.output, dtype=dtype, **{**settings, **options})


def mean_loss(loss: str, outputs: Tensor, targets: Tensor) -> Tensor:
    """Return the mean loss by PyTorch's own functions; the reference for tests of losses."""
    if loss == "bce":
        return functional.binary_cross_entropy_with_logits(
            outputs.reshape(-1), targets.reshape(-1).to(outputs.dtype)
        )
    if loss == "mse":
        return functional.mse_loss(outputs.reshape(-1), targets.reshape(-1).to(outputs.dtype))
    return functional.cross_entropy(outputs.flatten(0, -2), targets.flatten())


@cache
def _trained(name: str) -> nn.Module:
    case = CASES[name]
    module = case.initial().train()
    with seeded(seed_from("case", name, "steps")), torch.enable_grad():
        case.descend(module, *case.train)
    module.zero_grad(set_to_none=True)
    return module.eval()


def _generator(kind: str) -> torch.Generator:
    return torch.Generator().manual_seed(seed_from("case data", kind))


def _split(inputs: Inputs, targets: Tensor) -> tuple[Data, Data]:
    def rows(start: int, stop: int) -> Data:
        if isinstance(inputs, dict):
            return {key: value[start:stop] for key, value in inputs.items()}, targets[start:stop]
        return inputs[start:stop], targets[start:stop]

    return rows(0, TRAIN_ROWS), rows(TRAIN_ROWS, TRAIN_ROWS + TEST_ROWS)


def _real(shape: tuple[int, ...], kind: str) -> tuple[Tensor, Tensor]:
    """Draw normal inputs of mean 0.3 and the scores of three random directions."""
    generator = _generator(f"{kind} {shape}")
    inputs = 0.3 + torch.randn(TRAIN_ROWS + TEST_ROWS, *shape, generator=generator)
    flat = inputs.flatten(1)
    return inputs, flat @ torch.randn(flat.shape[1], 3, generator=generator)


def classes(*shape: int) -> tuple[Data, Data]:
    """Three classes: the largest of three random scores of normal inputs."""
    inputs, scores = _real(shape, "classes")
    return _split(inputs, scores.argmax(dim=1))


def two_classes() -> tuple[Data, Data]:
    """Labels 0.0 and 1.0: the sign of a random score of six normal inputs."""
    inputs, scores = _real((6,), "binary")
    return _split(inputs, (scores[:, 0] > 0).float())


def curve() -> tuple[Data, Data]:
    """Real targets `[rows, 1]`: a bent random score of six normal inputs."""
    inputs, scores = _real((6,), "regression")
    return _split(inputs, torch.tanh(scores[:, :1]) + 0.1 * scores[:, 1:2])


def tokens() -> tuple[Data, Data]:
    """Sequences of 5 tokens out of 7; the class is the sum of the tokens modulo three."""
    drawn = torch.randint(7, (TRAIN_ROWS + TEST_ROWS, 5), generator=_generator("tokens"))
    return _split(drawn, drawn.sum(dim=1) % 3)


def masked_tokens() -> tuple[Data, Data]:
    """Dict inputs: sequences of 5 tokens out of 7, of which the mask keeps 2 to 5."""
    generator = _generator("masked tokens")
    rows = TRAIN_ROWS + TEST_ROWS
    drawn = torch.randint(7, (rows, 5), generator=generator)
    length = torch.randint(2, 6, (rows, 1), generator=generator)
    mask = torch.arange(5)[None] < length
    return _split({"tokens": drawn, "mask": mask}, (drawn * mask).sum(dim=1) % 3)


def tagged_tokens() -> tuple[Data, Data]:
    """One of three labels for each of 5 tokens; -100 marks positions that do not count."""
    generator = _generator("tagged tokens")
    drawn = torch.randint(7, (TRAIN_ROWS + TEST_ROWS, 5), generator=generator)
    ignored = torch.rand(drawn.shape, generator=generator) < 0.3
    return _split(drawn, (drawn % 3).masked_fill(ignored, -100))


def _flat() -> tuple[Data, Data]:
    return classes(6)


def _images() -> tuple[Data, Data]:
    return classes(2, 6, 6)


def _series() -> tuple[Data, Data]:
    return classes(5, 3)


def _mlp(activation: type[nn.Module], outputs: int = 3, by: float = 1.0) -> nn.Sequential:
    first, second = round(10 * by), round(6 * by)
    return nn.Sequential(
        nn.Linear(6, first),
        activation(),
        nn.Linear(first, second),
        activation(),
        nn.Linear(second, outputs),
    )


def _batch_norm() -> nn.Module:
    return nn.Sequential(
        nn.Linear(6, 8), nn.BatchNorm1d(8), nn.ReLU(), nn.Linear(8, 6), nn.ReLU(), nn.Linear(6, 3)
    )


def _dropout() -> nn.Module:
    return nn.Sequential(nn.Linear(6, 12), nn.ReLU(), nn.Dropout(0.3), nn.Linear(12, 3))


def _convolution() -> nn.Module:
    return nn.Sequential(
        nn.Conv2d(2, 4, 3, padding=1), nn.ReLU(), nn.MaxPool2d(2), nn.Flatten(), nn.Linear(36, 3)
    )


def _depthwise() -> nn.Module:
    return nn.Sequential(
        nn.Conv2d(2, 4, 3, groups=2),
        nn.ReLU(),
        nn.Conv2d(4, 5, 1),
        nn.ReLU(),
        nn.AvgPool2d(2),
        nn.Flatten(),
        nn.Linear(20, 3),
    )


def _deep_linear() -> nn.Module:
    return nn.Sequential(nn.Linear(6, 5), nn.Linear(5, 4), nn.Linear(4, 3))


_REGRESSION = (PIECEWISE - {"classification"}) | {"regression"}

_ALL = (
    Case(
        "relu-mlp",
        lambda: _mlp(nn.ReLU),
        _flat,
        trains=True,
        wider=lambda by: _mlp(nn.ReLU, by=by),
    ),
    Case("tanh-mlp", lambda: _mlp(nn.Tanh), _flat, tags=SMOOTH),
    Case("tied-weights", TiedWeights, _flat),
    Case("frozen-parameters", frozen_first_layer, _flat),
    Case("buffers", BufferedNetwork, _flat),
    Case("batch-norm", _batch_norm, _flat, trains=True),
    Case("dropout", _dropout, _flat),
    Case("dict-output", DictOutput, _flat, output="logits"),
    Case("tuple-output", TupleOutput, _flat, output=0),
    Case("tokens", TokenClassifier, tokens, tags=TOKENS, trains=True),
    Case("masked-tokens", MaskedTokens, masked_tokens, tags=TOKENS),
    Case("sequence", SequenceTagger, tagged_tokens, tags=TOKENS),
    Case("gru", lambda: RecurrentClassifier(nn.GRU), _series, tags=SMOOTH),
    Case("lstm", lambda: RecurrentClassifier(nn.LSTM), _series, tags=SMOOTH),
    Case("attention", EncoderClassifier, _series, tags=SMOOTH),
    Case("convolution", _convolution, _images, trains=True),
    Case("residual-convolution", ResidualConvolution, _images),
    Case("depthwise-convolution", _depthwise, _images),
    Case("regression", lambda: _mlp(nn.ReLU, 1), curve, "mse", _REGRESSION, trains=True),
    Case("binary", lambda: _mlp(nn.ReLU, 1), two_classes, "bce", trains=True),
    Case("linear", lambda: nn.Linear(6, 3), _flat),
    Case("deep-linear", _deep_linear, _flat),
)

CASES: Final[dict[str, Case]] = {case.name: case for case in _ALL}
"""All cases by name."""
