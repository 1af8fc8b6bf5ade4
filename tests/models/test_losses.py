import math

import pytest
import torch
from torch import nn
from torch.nn import functional

from whynet.core.errors import InputError
from whynet.models.losses import Loss, load_loss

torch_seed = torch.Generator().manual_seed(5)


def random(*shape, dtype=torch.float64):
    return torch.randn(*shape, generator=torch_seed, dtype=dtype)


CE, BCE, MSE = (load_loss(name) for name in ("cross_entropy", "bce", "mse"))
LABELS = torch.tensor([0, 2, 1, 2, 0])
TOKENS = torch.tensor([[0, 1, -100], [-100, -100, -100], [3, 2, 1]])
CHANCES = torch.softmax(random(5, 3), -1)


def square(outputs, targets):
    return (outputs.reshape(-1) - targets).square().mean()


def looped(outputs, targets):
    return sum(
        (o - t).abs().item() * 0 + (o - t).abs().sum()
        for o, t in zip(outputs, targets, strict=True)
    ) / len(outputs)


GOOD = {
    "labels": (CE, random(5, 3), LABELS, functional.cross_entropy),
    "probabilities": (CE, random(5, 3), CHANCES, functional.cross_entropy),
    "float32 probabilities": (CE, random(5, 3), CHANCES.float(), None),
    "one-hot": (
        CE,
        random(5, 3),
        functional.one_hot(LABELS, 3),
        lambda o, t: functional.cross_entropy(o, LABELS),
    ),
    "tokens": (
        CE,
        random(3, 3, 4),
        TOKENS,
        lambda o, t: functional.cross_entropy(o.reshape(-1, 4), t.reshape(-1)),
    ),
    "bce": (BCE, random(5), (LABELS > 0).long(), None),
    "bce column": (
        BCE,
        random(5, 1),
        (LABELS > 0).double(),
        lambda o, t: functional.binary_cross_entropy_with_logits(o[:, 0], t),
    ),
    "bce labels": (
        BCE,
        random(5, 4),
        torch.rand(5, 4).round().double(),
        functional.binary_cross_entropy_with_logits,
    ),
    "mse": (MSE, random(5, 4), random(5, 4), functional.mse_loss),
    "mse image": (MSE, random(5, 4, 2), random(5, 4, 2), functional.mse_loss),
    "mse column": (MSE, random(5, 1), random(5), lambda o, t: functional.mse_loss(o[:, 0], t)),
    "mse column targets": (
        MSE,
        random(5),
        random(5, 1),
        lambda o, t: functional.mse_loss(o, t[:, 0]),
    ),
    "mse integers": (MSE, random(5), LABELS, lambda o, t: functional.mse_loss(o, t.double())),
    "custom": (load_loss(square), random(5, 1), random(5), square),
    "custom looped": (load_loss(looped), random(5), random(5), looped),
    "smoothed": (
        load_loss(nn.CrossEntropyLoss(label_smoothing=0.1)),
        random(5, 3),
        LABELS,
        nn.CrossEntropyLoss(label_smoothing=0.1),
    ),
}


@pytest.mark.parametrize("case", GOOD)
def test_sums_and_examples_agree_with_torch_and_split(case):
    loss, outputs, targets, reference = GOOD[case]
    outputs = outputs.clone().requires_grad_()
    loss.check(outputs, targets)
    loss.check_targets(targets.repeat(2, *[1] * (targets.ndim - 1)), tuple(outputs.shape))
    total, count = loss.sums(outputs, targets)
    assert isinstance(count, float)
    if reference is not None:
        assert torch.allclose(total / count, reference(outputs, targets))
        (ours,) = torch.autograd.grad(total / count, outputs, retain_graph=True)
        (theirs,) = torch.autograd.grad(reference(outputs, targets), outputs)
        assert torch.allclose(ours, theirs)
    pieces = [loss.sums(outputs[part], targets[part]) for part in (slice(0, 2), slice(2, None))]
    assert torch.allclose(sum(piece[0] for piece in pieces), total)
    assert math.isclose(sum(piece[1] for piece in pieces), count)
    each = loss.per_example(outputs, targets)
    assert each.shape == (len(outputs),)
    for index, value in enumerate(each):
        one, number = loss.sums(outputs[index : index + 1], targets[index : index + 1])
        assert torch.allclose(value, one / max(number, 1))
    assert torch.autograd.grad(each.sum(), outputs)[0].isfinite().all()


@pytest.mark.filterwarnings("ignore:.torch.jit.script. is deprecated")  # torch.func.jvp does
@pytest.mark.parametrize(
    "case", ["labels", "probabilities", "tokens", "bce column", "mse", "custom"]
)
def test_examples_go_through_vmap_and_second_derivatives(case):
    loss, outputs, targets, _ = GOOD[case]

    def one(output, target):
        return loss.per_example(output[None], target[None]).sum()

    gradient = torch.func.vmap(torch.func.grad(one))(outputs, targets)
    moved = outputs.clone().requires_grad_()
    (wanted,) = torch.autograd.grad(loss.per_example(moved, targets).sum(), moved)
    assert torch.allclose(gradient, wanted)
    direction = torch.ones_like(outputs)
    _, product = torch.func.jvp(
        torch.func.grad(lambda o: loss.sums(o, targets)[0]), (outputs,), (direction,)
    )
    step = 1e-5
    gradients = [
        torch.func.grad(lambda o: loss.sums(o, targets)[0])(outputs + s * direction)
        for s in (step, -step)
    ]
    assert torch.allclose(product, (gradients[0] - gradients[1]) / (2 * step), atol=1e-6)


def test_counts():
    assert CE.sums(random(3, 3, 4), TOKENS)[1] == 5.0
    assert CE.sums(random(5, 3), LABELS)[1] == 5.0
    assert MSE.sums(random(5, 4), random(5, 4))[1] == 5.0
    assert CE.per_example(random(3, 3, 4), TOKENS)[1] == 0


def test_predictions_and_tasks():
    assert CE.predictions(torch.eye(3)).tolist() == [0, 1, 2]
    assert CE.predictions(random(2, 3, 4)).shape == (2, 3)
    assert BCE.predictions(torch.tensor([[-1.0], [2.0]])).tolist() == [0, 1]
    assert BCE.predictions(torch.tensor([-1.0, 2.0])).tolist() == [0, 1]
    assert BCE.predictions(random(2, 3)).shape == (2, 3)
    with pytest.raises(ValueError, match="predicts no classes"):
        MSE.predictions(random(2))
    tasks = [loss.task for loss in (CE, BCE, MSE, load_loss(square))]
    assert tasks == ["classification", "binary classification", "regression", "other"]
    square_of_task = lambda o, t: square(o, t)  # noqa: E731 - it carries an attribute
    square_of_task.task = "regression"
    assert load_loss(square_of_task).task == "regression"


def test_losses_of_torch_are_recognized():
    assert load_loss(nn.CrossEntropyLoss()) is CE
    assert load_loss(functional.cross_entropy) is CE
    assert load_loss(nn.BCEWithLogitsLoss()) is BCE
    assert load_loss(nn.MSELoss()) is MSE
    assert load_loss(CE) is CE
    smoothed = load_loss(nn.CrossEntropyLoss(label_smoothing=0.1))
    assert smoothed is not CE
    assert smoothed.task == "classification"


def test_notes_say_what_is_reshaped():
    (note,) = MSE.check(random(5, 1), random(5))
    assert note == "Targets of row shape [] are read as [1], the shape of the outputs."
    assert MSE.check(random(5, 2), random(5, 2)) == ()


WEIGHTED = nn.CrossEntropyLoss(weight=torch.tensor([1.0, 2.0, 3.0], dtype=torch.float64))
BAD = {
    "labels too large": (
        CE,
        random(5, 2),
        LABELS,
        r"labels from 0 to 2 for outputs of 2 classes; wanted labels 0 to 1",
    ),
    "labels negative": (CE, random(5, 3), LABELS - 1, r"labels from -1 to 1"),
    "float labels": (
        CE,
        random(5, 3),
        LABELS.float(),
        r"labels of dtype torch.float32 .* integer labels 0 to 2",
    ),
    "column of labels": (
        CE,
        random(5, 3),
        LABELS[:, None],
        r"\[5, 1\] for outputs of shape \[5, 3\]; wanted labels of shape \[N\]",
    ),
    "one logit": (CE, random(5, 1), LABELS, r"outputs of shape \[5, 1\].*bce"),
    "no class axis": (CE, random(5), LABELS, r"outputs of shape \[5\]"),
    "classes first": (
        CE,
        random(3, 4, 3),
        TOKENS[:, :2].repeat(1, 1),
        r"targets of shape \[3, 2\]",
    ),
    "classes not last": (
        CE,
        random(3, 4, 5),
        torch.zeros(3, 5).long(),
        r"classes are not the last axis; wanted labels of shape \[N, 4\]",
    ),
    "all ignored": (CE, random(2, 3), torch.tensor([-100, -100]), r"all -100"),
    "no probabilities": (CE, random(5, 3), random(5, 3).abs() + 1, r"sum to 1 in each row"),
    "negative probabilities": (CE, random(1, 2), torch.tensor([[-1.0, 2.0]]), r"from -1 "),
    "bce range": (
        BCE,
        random(5),
        LABELS,
        r"targets from 0 to 2 for bce; wanted targets from 0 to 1",
    ),
    "bce shape": (
        BCE,
        random(5, 2),
        LABELS > 0,
        r"targets of shape \[5\] for outputs of shape \[5, 2\]",
    ),
    "mse broadcast": (MSE, random(5, 4), random(5), r"never broadcast"),
    "mse row": (
        MSE,
        random(5, 4),
        random(5, 1),
        r"targets of shape \[5, 1\] for outputs of shape \[5, 4\]",
    ),
    "mse square": (MSE, random(5, 1), random(5, 5), r"never broadcast"),
    "empty": (MSE, random(0, 4), random(0, 4), r"outputs of shape \[0, 4\].*at least one"),
    "lengths": (MSE, random(5, 4), random(4, 4), r"as many targets as outputs"),
    "sum": (
        load_loss(lambda o, t: (o - t).square().sum()),
        random(5),
        random(5),
        r"wanted the mean over the examples of a batch",
    ),
    "sum of one": (
        load_loss(lambda o, t: (o - t).square().sum()),
        random(1),
        random(1),
        r"wanted the mean over the examples",
    ),
    "class weights": (
        load_loss(WEIGHTED),
        random(5, 3),
        LABELS,
        r"wanted the mean over the examples of a batch",
    ),
    "none": (load_loss(lambda o, t: None), random(5), random(5), r"no tensor \(NoneType\)"),
    "vector": (load_loss(lambda o, t: o - t), random(5), random(5), r"shape \[5\]"),
    "detached": (
        load_loss(lambda o, t: (o.detach() - t).mean()),
        random(5),
        random(5),
        r"without a gradient",
    ),
    "raises": (load_loss(lambda o, t: o.no), random(5), random(5), r"raising AttributeError: .*no"),
    "NaN": (load_loss(lambda o, t: (o * math.nan).mean()), random(5), random(5), r"giving nan"),
}


@pytest.mark.parametrize("case", BAD)
def test_bad_batches_are_one_sentence(case):
    loss, outputs, targets, sentence = BAD[case]
    with pytest.raises(InputError, match=sentence) as caught:
        loss.check(outputs, targets, argument="--loss")
    text = str(caught.value)
    assert text.startswith("--loss: found ")
    assert "; wanted " in text
    assert text.isprintable()


def test_sums_never_broadcast_even_unchecked():
    for loss, outputs, targets in (
        (MSE, random(5, 5), random(5)),
        (MSE, random(5, 1), random(1, 5)),
        (BCE, random(5, 1), random(5, 5)),
        (CE, random(5, 3), LABELS[:4]),
    ):
        with pytest.raises(InputError, match="never broadcast"):
            loss.sums(outputs, targets)


def test_a_loss_from_a_file(tmp_path):
    path = tmp_path / "my_loss.py"
    path.write_text(
        "def loss(outputs, targets):\n    return (outputs - targets).abs().mean()\n"
        "loss.task = 'regression'\n"
        "def bad(outputs, targets):\n    return outputs.no_such\n"
        "class Wrong: pass\nnumber = 3\n"
        "def odd(o, t): ...\nodd.task = 'cooking'\n"
    )
    said = []
    loss = load_loss(f"{path}:loss", said.append, "--loss")
    assert said == [f"running code from {path}"]
    assert (loss.name, loss.task, loss.source) == ("loss", "regression", str(path))
    assert len(loss.sha256) == 64
    loss.check(random(4), random(4))
    bad = load_loss(f"{path}:bad", said.append)
    with pytest.raises(InputError, match=r"AttributeError: .*\(line 5 of 'my_loss.py'\)"):
        bad.check(random(4), random(4))
    for name, sentence in (
        ("Wrong", r"Wrong in 'my_loss.py', a class"),
        ("number", r"number in 'my_loss.py', a int"),
        ("odd", r"the task 'cooking'; wanted one of classification"),
        ("los", r"did you mean 'loss'"),
    ):
        with pytest.raises(InputError, match=sentence) as caught:
            load_loss(f"{path}:{name}", said.append, "--loss")
        assert caught.value.argument == "--loss"
    with pytest.raises(InputError, match="wanted the callable itself"):
        load_loss(f"{path}:loss")
    with pytest.raises(
        InputError, match=r"did you mean 'cross_entropy'.*; wanted one of cross_entropy"
    ):
        load_loss("crossentropy")
    with pytest.raises(InputError, match="a class; wanted"):
        load_loss(nn.CrossEntropyLoss)
    assert isinstance(CE, Loss)
