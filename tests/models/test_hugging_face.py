"""Encoders and decoders of Hugging Face, built from a configuration; nothing is downloaded."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from transformers import BertConfig, BertForSequenceClassification, GPT2Config, GPT2LMHeadModel

from whynet.cli.main import main
from whynet.concepts.condensation.reduction import condense
from whynet.concepts.measuring import measure
from whynet.core.measurement import Measurement
from whynet.core.outcome import NotApplicable
from whynet.models.subject import Subject
from whynet.models.token_vectors import TokenVectors, token_vectors

ROWS, LENGTH, WORDS = 60, 6, 11

MODEL = """
from transformers import GPT2Config, GPT2LMHeadModel


def build():
    return GPT2LMHeadModel(GPT2Config(vocab_size=11, n_positions=8, n_embd=4, n_layer=1, n_head=2,
                                      bos_token_id=0, eos_token_id=0))
"""


def sentences() -> tuple[dict[str, Tensor], Tensor]:
    """Tokens and mask, and how many of the tokens that count are below 6."""
    generator = torch.Generator().manual_seed(0)
    ids = torch.randint(1, WORDS, (ROWS, LENGTH), generator=generator)
    length = torch.randint(2, LENGTH + 1, (ROWS, 1), generator=generator)
    mask = (torch.arange(LENGTH) < length).long()
    return {"input_ids": ids * mask, "attention_mask": mask}, ((ids < 6) * mask).sum(1)


def following_words(inputs: dict[str, Tensor]) -> Tensor:
    """The next token at each place, -100 where there is none."""
    ids, mask = inputs["input_ids"], inputs["attention_mask"]
    targets = torch.full_like(ids, -100)
    targets[:, :-1] = torch.where(mask[:, 1:] == 1, ids[:, 1:], -100)
    return targets


def encoder() -> nn.Module:
    config = BertConfig(
        vocab_size=WORDS, hidden_size=4, num_hidden_layers=1, num_attention_heads=2,
        intermediate_size=5, max_position_embeddings=8, num_labels=2, type_vocab_size=1,
        initializer_range=0.5, attn_implementation="eager",
    )  # fmt: skip
    return BertForSequenceClassification(config)


def decoder() -> nn.Module:
    config = GPT2Config(
        vocab_size=WORDS, n_positions=8, n_embd=4, n_layer=1, n_head=2, bos_token_id=0,
        eos_token_id=0, initializer_range=0.5, attn_implementation="eager",
    )  # fmt: skip
    return GPT2LMHeadModel(config)


def case(kind: str, dtype: torch.dtype) -> tuple[nn.Module, dict[str, Tensor], Tensor]:
    torch.manual_seed(1)
    inputs, counts = sentences()
    if kind == "encoder":
        return encoder().eval().to(dtype), inputs, (counts > 1).long()
    return decoder().eval().to(dtype), inputs, following_words(inputs)


def part(inputs: dict[str, Tensor], rows: slice) -> dict[str, Tensor]:
    return {name: value[rows] for name, value in inputs.items()}


def subject(kind: str, dtype: torch.dtype = torch.float32) -> Subject:
    network, inputs, targets = case(kind, dtype)
    train, test = slice(0, 40), slice(40, ROWS)
    return Subject(
        network, train=(part(inputs, train), targets[train]), test=(part(inputs, test),
        targets[test]), loss="cross_entropy", batch_size=16,
    )  # fmt: skip


def dense_hessian(network: nn.Module, inputs: dict[str, Tensor], targets: Tensor) -> Tensor:
    """By two passes of automatic differentiation over the loss of all rows, in one go."""
    names = [name for name, _ in network.named_parameters()]
    own = [p.detach().clone().requires_grad_() for p in network.parameters()]

    def loss(values: list[Tensor]) -> Tensor:
        called = dict(zip(names, values, strict=True))
        logits = torch.func.functional_call(network, called, (), inputs).logits
        return nn.functional.cross_entropy(logits.flatten(0, -2), targets.flatten())

    gradients = torch.autograd.grad(loss(own), own, create_graph=True)
    flat = torch.cat([g.flatten() for g in gradients])
    rows = []
    for entry in flat:
        row = torch.autograd.grad(entry, own, retain_graph=True, allow_unused=True)
        rows.append(torch.cat([(r if r is not None else torch.zeros_like(p)).flatten()
                               for r, p in zip(row, own, strict=True)]))  # fmt: skip
    return torch.stack(rows)


def taken(name: str, held: Subject) -> Measurement:
    found = measure(name, held)
    assert isinstance(found, Measurement), found
    return found


@pytest.mark.parametrize(
    ("kind", "dtype"), [("encoder", torch.float64), ("decoder", torch.float32)]
)
def test_curvature_is_that_of_the_dense_matrix(kind: str, dtype: torch.dtype) -> None:
    network, inputs, targets = case(kind, torch.float64)
    rows = slice(0, 40)
    dense = dense_hessian(network, part(inputs, rows), targets[rows]).detach()
    values = torch.linalg.eigvalsh(dense)
    found = taken("hessian-spectrum", subject(kind, dtype))
    slack = (1e-8 if dtype == torch.float64 else 1e-3) * float(values.abs().max())
    for name, true in (("largest", values[-1]), ("smallest", values[0])):
        estimate = found.estimate(name)
        assert estimate.low - slack <= float(true) <= estimate.high + slack
    trace = found.estimate("trace")
    assert trace.low - slack <= float(dense.trace()) <= trace.high + slack


@pytest.mark.parametrize("kind", ["encoder", "decoder"])
def test_accuracy_is_the_mean_share_of_an_example(kind: str) -> None:
    network, inputs, targets = case(kind, torch.float32)
    with torch.no_grad():
        answers = network(**part(inputs, slice(40, ROWS))).logits.argmax(-1)
    known = (targets[40:] != -100).reshape(ROWS - 40, -1)
    right = (answers == targets[40:]).reshape(ROWS - 40, -1) & known
    share = (right.sum(1) / known.sum(1)).mean()
    held = subject(kind)
    assert "GELU transformer" in held.facts.architecture
    found = taken("fit", held).estimate("accuracy", split="test")
    assert found.value == pytest.approx(float(share), abs=1e-6)


def test_neurons_and_cheap_models_of_an_encoder() -> None:
    held = subject("encoder")
    layers = taken("neuron-similarity", held).dataset["layer"].values
    assert any("intermediate.dense" in str(layer) for layer in layers)
    assert "how often each token occurs" in taken("baselines", held).notes[0]


def test_units_of_a_decoder_whose_gelu_is_written_in_pieces() -> None:
    """GPT-2's activation is a sum of powers, a tanh and a product: one activation all the same."""
    network, inputs, targets = case("decoder", torch.float64)
    mlp = network.transformer.h[0].mlp
    with torch.no_grad():  # two units alike, and one that nothing reads
        mlp.c_fc.weight[:, 1] = mlp.c_fc.weight[:, 0]
        mlp.c_fc.bias[1] = mlp.c_fc.bias[0]
        mlp.c_proj.weight[2] = 0.0
    held = Subject(
        network, train=(inputs, targets), loss="cross_entropy", dtype=torch.float64, batch_size=16
    )
    found = taken("neuron-similarity", held)
    assert [str(layer) for layer in found.dataset["layer"].values] == ["transformer.h.0.mlp.c_fc"]
    assert found.values("distinct")[0, 0] <= found.values("width")[0] - 1
    small = condense(held, exact_only=True)
    layer = next(la for la in small.layers if la.path == "transformer.h.0.mlp.c_fc")
    assert (layer.before, layer.after) == (16, 14)
    with torch.no_grad():
        before, after = (one(**inputs).logits for one in (network, small.module))
    assert float((after - before).abs().max()) <= 1e-12 * float(before.abs().max())


def test_an_activation_of_that_name_that_is_someone_else_s_is_looked_into() -> None:
    """The control: what does not come from transformers may mix its channels."""

    class NewGELUActivation(nn.Module):
        def forward(self, values: Tensor) -> Tensor:
            return values * values.sum(-1, keepdim=True)

    module = nn.Sequential(nn.Linear(3, 5), NewGELUActivation(), nn.Linear(5, 2))
    held = Subject(module, train=(torch.randn(8, 3), torch.randn(8, 2)), loss="mse")
    assert isinstance(measure("neuron-similarity", held), NotApplicable)
    small = condense(held, exact_only=True)
    assert next(la.reason for la in small.layers if la.path == "0")


def test_from_saved_weights_with_a_tied_head(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """`save_pretrained` leaves out the head that is tied to the embedding."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "model.py").write_text(MODEL, encoding="utf-8")
    space: dict[str, Any] = {}
    exec(MODEL, space)
    torch.manual_seed(2)
    network = space["build"]()
    network.save_pretrained(tmp_path / "saved")
    inputs, _ = sentences()
    arrays = {name: value.numpy() for name, value in inputs.items()}
    np.savez(tmp_path / "data.npz", **arrays, labels=following_words(inputs).numpy())
    words = ["examine", "model.py:build", "--weights", "saved/model.safetensors"]
    words += ["--test", "data.npz", "--loss", "cross_entropy", "--only", "fit", "--out", "out"]
    assert main([*words, "--seeds", "0"]) == 0, capsys.readouterr().err
    held = Subject(network.eval(), test=(inputs, following_words(inputs)), loss="cross_entropy")
    accuracy = taken("fit", held).estimate("accuracy", split="test").value
    assert f"{100 * accuracy:.1f} %" in (tmp_path / "out/report.html").read_text("utf-8")


@pytest.mark.parametrize("kind", ["encoder", "decoder"])
def test_vectors_of_tokens_are_what_inputs_embeds_takes(kind: str) -> None:
    """Outputs and gradients at moved vectors, against the network's own way in."""
    held = subject(kind, torch.float64)
    found = token_vectors(held)
    assert isinstance(found, TokenVectors)
    network, inputs, _ = case(kind, torch.float64)
    counted = inputs["attention_mask"][..., None]
    start, forward = found.of(held, inputs)
    generator = torch.Generator().manual_seed(3)
    shift = torch.randn(start.shape, generator=generator, dtype=torch.float64) * counted
    ours, theirs = ((start + shift).requires_grad_() for _ in range(2))
    outputs = forward(ours)
    wanted = network(inputs_embeds=theirs, attention_mask=inputs["attention_mask"]).logits
    kept = counted.bool() if kind == "decoder" else torch.ones_like(wanted).bool()
    assert torch.allclose(torch.where(kept, outputs, 0), torch.where(kept, wanted, 0), atol=1e-12)
    slopes = [
        torch.autograd.grad(torch.where(kept, out, 0).square().sum(), x)[0] * counted
        for out, x in ((outputs, ours), (wanted, theirs))
    ]
    assert torch.allclose(*slopes, atol=1e-12)


def test_an_encoder_is_attacked_by_swaps() -> None:
    held = subject("encoder")
    found = measure("token-swaps", held)
    assert isinstance(found, Measurement)
    worst = found.estimate("swapped_accuracy")
    assert worst.value <= found.estimate("random_accuracy").value
    steep = measure("input-gradient", subject("decoder"))
    assert isinstance(steep, Measurement)
    assert steep.estimate("token_distance").value > 0
