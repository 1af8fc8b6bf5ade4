"""Size against function error and accuracy: condense beside pruning and low-rank factorization.

All without training, at the same share of parameters, on four networks trained on real data. The
promise is the smallest error of the outputs at every size. Error: root mean square change of the
outputs on the test data, relative; accuracy with the paired interval of the change (R² for
diabetes).

    python benchmarks/shrinking.py [--peer /path/to/python] [--only digits-mlp-512]

`--peer` is a Python that has `torch_pruning`; each of its importances prunes the same network.
"""

from __future__ import annotations

import argparse
import copy
import json
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from whynet import Subject, condense
from whynet.core.seeds import seed_from
from whynet.models.channel_flow import channel_groups
from whynet.models.resizing import cut, held_state
from whynet.models.scores import correct
from whynet.numerics.intervals import paired_difference_of_proportions
from whynet.training.builtin import builtin_module, builtin_trainer, load_builtin
from whynet.training.supervised import seeded

SHARES = (0.5, 0.25, 0.12, 0.06)

PEER = """
import json, sys
import numpy as np, torch, torch_pruning as tp
folder = sys.argv[1]
data = np.load(folder + "/data.npz")
x, y, test = (torch.from_numpy(data[k]) for k in ("train", "labels", "test"))
found = {}
kinds = {
    "L1": lambda: tp.importance.MagnitudeImportance(p=1),
    "L2": lambda: tp.importance.MagnitudeImportance(p=2),
    "LAMP": lambda: tp.importance.LAMPImportance(),
    "FPGM": lambda: tp.importance.FPGMImportance(),
    "random": lambda: tp.importance.RandomImportance(),
    "Taylor": lambda: tp.importance.TaylorImportance(),
    "Hessian": lambda: tp.importance.HessianImportance(),
}
for kind, make in kinds.items():
    for ratio in json.loads(sys.argv[2]):
        torch.manual_seed(0)
        model = torch.load(folder + "/model.pt", weights_only=False)
        last = [m for m in model.modules() if isinstance(m, torch.nn.Linear)][-1]
        try:
            imp = make()
            pruner = tp.pruner.BasePruner(model, x[:2], importance=imp, pruning_ratio=ratio,
                                          ignored_layers=[last])
            if kind in ("Taylor", "Hessian"):
                out = model(x)
                wanted = y if sys.argv[3] == "cross_entropy" else y.reshape(out.shape)
                losses = {
                    "mse": torch.nn.functional.mse_loss,
                    "bce": torch.nn.functional.binary_cross_entropy_with_logits,
                    "cross_entropy": torch.nn.functional.cross_entropy,
                }[sys.argv[3]]
                if kind == "Hessian":
                    each = losses(out, wanted, reduction="none").flatten()
                    imp.zero_grad()
                    for one in each[:200]:
                        model.zero_grad()
                        one.backward(retain_graph=True)
                        imp.accumulate_grad(model)
                else:
                    losses(out, wanted).backward()
            pruner.step()
            with torch.no_grad():
                outputs = model(test).double().numpy().tolist()
            count = sum(p.numel() for p in model.parameters())
            found.setdefault(kind, []).append([count, outputs])
        except Exception as error:
            found.setdefault(kind, []).append([0, repr(error)[:200]])
print(json.dumps(found))
"""


@dataclass(frozen=True)
class Case:
    """A trained network with its data."""

    name: str
    subject: Subject


def cases(only: str | None) -> Iterator[Case]:
    for name in ("digits-mlp-512", "digits-cnn", "breast-cancer-mlp", "diabetes-mlp"):
        if only is not None and name != only:
            continue
        base = name.removesuffix("-512")
        built = load_builtin(base)
        module = built.module
        if name.endswith("-512"):
            with seeded(seed_from("shrinking", name)):
                module = builtin_module(base).build(4.0)
            builtin_trainer(base).train(module, *built.train, seed=0)
            module.eval()
        yield Case(name, Subject(module, train=built.train, test=built.test, loss=built.loss))


def count_of(module: nn.Module) -> int:
    return sum(parameter.numel() for parameter in module.parameters())


def pruned(subject: Subject, share: float, kind: str) -> nn.Module:
    """Keep a share of the channels of every layer, by size or at random, and change nothing."""
    import copy

    module = copy.deepcopy(subject.module)
    inputs = subject.examples("train").take(range(2), dtype=subject.dtype)[0]
    generator = torch.Generator().manual_seed(0)
    for index in range(len(channel_groups(module, lambda: module(inputs)))):
        group = channel_groups(module, lambda: module(inputs))[index]
        if group.refusal is not None:
            continue
        rows = held_state(module)[group.producers[0].weight].flatten(1)
        size = (
            rows.norm(dim=1) if kind == "magnitude" else torch.rand(len(rows), generator=generator)
        )
        stays = torch.zeros(group.width, dtype=torch.bool)
        stays[size.argsort(descending=True)[: max(1, round(share * group.width))]] = True
        cut(module, (group, stays))
    return module


def low_rank(subject: Subject, budget: float) -> tuple[int, nn.Module]:
    """Factor every layer by its singular values, keeping one share of their energy, in a budget."""
    whole = count_of(subject.module)
    for share in 1 - np.geomspace(1e-4, 1.0, 200):
        module, count = copy.deepcopy(subject.module), 0
        for part in module.modules():
            if not isinstance(part, nn.Linear | nn.Conv2d):
                continue
            rows = part.weight.detach().flatten(1)
            left, size, right = torch.linalg.svd(rows, full_matrices=False)
            energy = size.square().cumsum(0) / size.square().sum()
            rank = min(len(size), int((energy < share).sum()) + 1)
            fewer = rank * sum(rows.shape)
            if fewer < rows.numel():
                low = (left[:, :rank] * size[:rank]) @ right[:rank]
                part.weight.data.copy_(low.reshape(part.weight.shape))
            count += min(fewer, rows.numel()) + (0 if part.bias is None else part.bias.numel())
        if count <= budget * whole:
            break
    return count, module


def score(case: Case, outputs: Tensor) -> tuple[float, str]:
    """Return the error of the outputs, and accuracy with the interval of its change."""
    before, targets = case.subject.outputs("test")
    gap = (outputs - before.double()).norm() / before.double().norm()
    if "classification" not in case.subject.loss.task:
        wanted = targets.double().reshape(outputs.shape)
        rest, total = (wanted - outputs).square().sum(), (wanted - wanted.mean(0)).square().sum()
        return float(gap), f"R2 {1 - float(rest / total):.3f}"
    now, then = (correct(case.subject.loss, o, targets).numpy() > 0.5 for o in (outputs, before))
    change = paired_difference_of_proportions(now, then)
    low, high = change.low, change.high
    return float(gap), f"{now.mean():.1%} [{low:+.1%}, {high:+.1%}]"


def peers(case: Case, python: str) -> dict[str, list[list[Any]]]:
    """Prune with every importance of torch-pruning, so many channels that sizes are alike."""
    train, test = (case.subject.examples(s) for s in ("train", "test"))
    inputs, targets = train.take(range(train.count), dtype=torch.float32)
    with tempfile.TemporaryDirectory() as folder:
        torch.save(case.subject.module, Path(folder) / "model.pt")
        np.savez(
            Path(folder) / "data.npz", train=inputs.numpy(), labels=targets.numpy(),
            test=test.take(range(test.count), dtype=torch.float32)[0].numpy(),
        )  # fmt: skip
        ratios = json.dumps([1 - share for share in SHARES])
        words = [python, "-c", PEER, folder, ratios, case.subject.loss.name]
        done = subprocess.run(words, capture_output=True, text=True, check=False)
    if done.returncode:
        print(done.stderr[-2000:], file=sys.stderr)
        return {}
    return json.loads(done.stdout)


def run(case: Case, python: str | None) -> bool:
    """Print one table; returns whether condense errs least at every size."""
    whole = count_of(case.subject.module)
    print(f"\n{case.name}: {whole:,} parameters")
    rows: list[tuple[float, str, float, float, str]] = []
    test = case.subject.examples("test")
    inputs = test.take(range(test.count), dtype=case.subject.dtype)[0]
    widths = [group.before for group in condense(case.subject, exact_only=True).layers[:-1]]
    for share in SHARES:
        found = condense(case.subject, units=max(len(widths), round(share * sum(widths))))
        with torch.no_grad():
            rows.append((share, "condense", count_of(found.module) / whole,
                         *score(case, found.module(inputs).double())))  # fmt: skip
        for kind in ("magnitude", "random"):
            module = pruned(case.subject, share, kind)
            with torch.no_grad():
                rows.append((share, kind, count_of(module) / whole,
                             *score(case, module(inputs).double())))  # fmt: skip
        count, module = low_rank(case.subject, rows[-1][2])
        with torch.no_grad():
            rows.append((share, "low rank", count / whole,
                         *score(case, module(inputs).double())))  # fmt: skip
    for kind, entries in (peers(case, python) if python else {}).items():
        for share, (count, outputs) in zip(SHARES, entries, strict=True):
            if count:
                made = torch.tensor(outputs, dtype=torch.float64)
                rows.append((share, f"torch-pruning {kind}", count / whole, *score(case, made)))
            else:
                print(f"  torch-pruning {kind}, {share}: {outputs}")
    best = True
    for share in SHARES:
        mine = [row for row in rows if row[0] == share]
        least = min(row[3] for row in mine)
        best &= next(row[3] for row in mine if row[1] == "condense") <= least
        print(f"  units kept: {share:.0%}")
        for _, name, size, error, accuracy in sorted(mine, key=lambda row: row[3]):
            print(f"    {name:24} {size:6.1%} of parameters   error {error:8.2%}   {accuracy}")
    return best


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--peer")
    parser.add_argument("--only")
    given = parser.parse_args()
    torch.set_num_threads(1)
    held = [run(case, given.peer) for case in cases(given.only)]
    print("\ncondense errs least at every size" if all(held) else "\nthe promise is broken")
    return 0 if all(held) else 1


if __name__ == "__main__":
    sys.exit(main())
