from __future__ import annotations

import dataclasses
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from whynet.core.builtin import BuiltIn
from whynet.core.errors import InputError
from whynet.core.metadata import read_metadata
from whynet.models.preservation import global_state
from whynet.training import builtin
from whynet.training.builtin import BuiltSubject, builtin_module, builtin_names, load_builtin

NAMES = (
    "breast-cancer-mlp",
    "diabetes-mlp",
    "digits-cnn",
    "digits-mlp",
    "digits-transformer",
)

FLOORS = {
    "breast-cancer-mlp": (40, 0.94),
    "diabetes-mlp": (100, 0.40),
    "digits-cnn": (3, 0.90),
    "digits-mlp": (60, 0.96),
    "digits-transformer": (8, 0.60),
}
"""Epochs trained in this test, and the score on test rows that they must reach."""


def score(built: BuiltSubject, split: str) -> float:
    """Return accuracy, or R² for regression."""
    inputs, targets = (torch.as_tensor(array) for array in getattr(built, split))
    with torch.no_grad():
        outputs = built.module(inputs)
    if built.loss == "cross_entropy":
        return (outputs.argmax(dim=1) == targets).double().mean().item()
    if built.loss == "bce":
        return ((outputs[:, 0] > 0) == (targets > 0.5)).double().mean().item()
    wrong = (outputs[:, 0] - targets).square().mean()
    return 1 - (wrong / targets.var(correction=0)).item()


def fewer_epochs(monkeypatch: pytest.MonkeyPatch, name: str, epochs: int) -> None:
    module: Any = builtin_module(name)
    monkeypatch.setattr(module, "RECIPE", dataclasses.replace(module.RECIPE, epochs=epochs))


def test_the_names_are_those_of_the_files() -> None:
    assert builtin_names() == NAMES


def test_listing_imports_neither_torch_nor_scikit_learn() -> None:
    program = (
        "import sys; from whynet.training.builtin import builtins;"
        "assert len(builtins()) == 5;"
        "print([m for m in ('torch', 'sklearn', 'numpy') if m in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True)
    assert done.stdout == "[]\n", done.stderr


@pytest.mark.parametrize("name", NAMES)
def test_metadata_read_from_the_source_are_those_of_the_imported_file(name: str) -> None:
    module = builtin_module(name)
    assert builtin.builtins()[name] == module.SUBJECT
    families = Path(builtin.__file__).parents[1] / "models" / "families"
    assert (families / f"{module.SUBJECT.family}.py").is_file()
    (train, _), (test, _) = module.data()
    assert f"{len(train)} training and {len(test)} test" in module.SUBJECT.data


def test_a_file_without_metadata_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "empty.py"
    path.write_text("RECIPE = 3\n")
    with pytest.raises(ValueError, match=r"empty\.py has no SUBJECT = BuiltIn"):
        read_metadata(path, "SUBJECT", BuiltIn)


@pytest.mark.parametrize("name", NAMES)
def test_a_subject_trains_to_its_floor(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    epochs, floor = FLOORS[name]
    fewer_epochs(monkeypatch, name, epochs)
    told: list[tuple[int, int, float]] = []
    before = global_state()
    built = load_builtin(name, progress=lambda *said: told.append(said))
    assert global_state() == before
    assert [said[:2] for said in told] == [(n + 1, epochs) for n in range(epochs)]
    assert score(built, "test") >= floor
    assert not built.module.training
    assert all(value.dtype == torch.float32 for value in built.module.state_dict().values())
    assert built.notes == builtin.builtins()[name].notes
    if name == "digits-mlp":
        assert score(built, "train") == 1.0


@pytest.mark.parametrize("name", NAMES)
def test_kept_weights_are_loaded_instead_of_training(
    name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    fewer_epochs(monkeypatch, name, 1)
    trained = load_builtin(name, seed=3)
    kept = {key: value.clone() for key, value in trained.module.state_dict().items()}

    def refuse(done: int, total: int, loss: float) -> None:
        raise AssertionError("trained although weights were given")

    again = load_builtin(name, progress=refuse, seed=3, module_state=kept)
    for key, value in again.module.state_dict().items():
        assert torch.equal(value, kept[key])
        assert torch.equal(again.initial_state[key], trained.initial_state[key])
    np.testing.assert_array_equal(again.test[0], trained.test[0])
    start = load_builtin(name, seed=3, module_state=trained.initial_state)
    assert any(
        not torch.equal(value, kept[key]) for key, value in start.module.state_dict().items()
    )


def test_training_is_a_function_of_the_seed(monkeypatch: pytest.MonkeyPatch) -> None:
    fewer_epochs(monkeypatch, "breast-cancer-mlp", 2)
    torch.manual_seed(1)
    first = load_builtin("breast-cancer-mlp")
    torch.manual_seed(2)
    second = load_builtin("breast-cancer-mlp")
    other = load_builtin("breast-cancer-mlp", seed=1)
    for key, value in first.module.state_dict().items():
        assert torch.equal(value, second.module.state_dict()[key])
    assert not torch.equal(first.initial_state["0.weight"], other.initial_state["0.weight"])
    np.testing.assert_array_equal(first.train[0], other.train[0])


def test_weights_do_not_depend_on_the_number_of_threads(monkeypatch: pytest.MonkeyPatch) -> None:
    fewer_epochs(monkeypatch, "digits-cnn", 1)
    during: list[int] = []
    before = torch.get_num_threads()
    states = []
    try:
        for threads in (1, 2):
            torch.set_num_threads(threads)
            built = load_builtin(
                "digits-cnn", progress=lambda *_: during.append(torch.get_num_threads())
            )
            assert torch.get_num_threads() == threads
            states.append(built.module.state_dict())
    finally:
        torch.set_num_threads(before)
    assert during == [1, 1]
    assert all(torch.equal(value, states[1][key]) for key, value in states[0].items())


def test_an_unknown_name_is_refused_with_the_nearest() -> None:
    with pytest.raises(InputError) as error:
        load_builtin("digit-mlp")
    assert str(error.value) == (
        "subject: found 'digit-mlp'; wanted one of breast-cancer-mlp, diabetes-mlp, digits-cnn, "
        "digits-mlp, digits-transformer (did you mean 'digits-mlp'?)."
    )
    with pytest.raises(InputError, match=r"digits-transformer\.$"):
        load_builtin("zzzz")


def test_weights_of_another_network_are_refused() -> None:
    other = builtin_module("diabetes-mlp").build().state_dict()
    with pytest.raises(InputError) as error:
        load_builtin("breast-cancer-mlp", module_state=other)
    assert error.value.argument == "module_state"
    assert error.value.found.startswith("size mismatch for 0.weight")
    assert error.value.wanted == "the state dict of the built-in subject 'breast-cancer-mlp'"
