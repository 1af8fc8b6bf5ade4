"""The compiled step agrees with the reference; needs a C++ compiler, as `make test-system` does."""

import numpy as np
import pytest
import torch
from tests.training.ensembles import data, distance, half_mean_square, start, two_layer

from whynet.core.errors import InputError
from whynet.models.preservation import global_state
from whynet.training import ensemble_step
from whynet.training.ensemble import Below, Optimization, train_ensemble


@pytest.mark.system
@pytest.mark.parametrize("dtype", [torch.float64, torch.float32])
@pytest.mark.parametrize(("rule", "batch"), [("gradient-descent", None), ("adamw", 5)])
def test_the_compiled_engine_agrees_with_the_reference(rule, batch, dtype):
    parameters, (inputs, targets) = start(5, dtype=dtype), data(dtype=dtype)
    rates = torch.tensor([0.01, 0.02, 0.03, 0.04, 1e30], dtype=dtype)
    thresholds = torch.tensor([0.0, 0.2, 0.0, 0.1, 0.0], dtype=dtype)
    before = global_state()

    def trained(engine):
        return train_ensemble(
            two_layer,
            parameters,
            inputs,
            targets,
            half_mean_square,
            Optimization(rule, rates, 0.01),
            steps=300,
            stop=Below("loss", thresholds, every=10),
            record={"size": lambda p: p["a"].norm(dim=1)},
            batch=batch,
            seeds=None if batch is None else range(5),
            engine=engine,
        )

    eager, compiled, again = trained("eager"), trained("compiled"), trained("compiled")
    assert before == global_state()
    allowed = 1e-10 if dtype == torch.float64 else 1e-3
    first = {name: value[:4] for name, value in compiled.parameters.items()}
    assert distance(first, {name: value[:4] for name, value in eager.parameters.items()}) < allowed
    assert compiled.state == eager.state and compiled.steps.tolist() == eager.steps.tolist()
    assert np.allclose(compiled.records["size"][:4], eager.records["size"][:4], rtol=allowed)
    assert np.allclose(compiled.records.loss[:4], eager.records.loss[:4], rtol=100 * allowed)
    for name, value in compiled.parameters.items():
        assert torch.equal(value, again.parameters[name])


@pytest.mark.system
def test_many_different_steps_are_all_compiled():
    """PyTorch gives up after eight recompilations of one function; each step is its own."""
    parameters, (inputs, targets) = start(2, width=3), data()
    for number in range(9):

        def loss(outputs, aims, factor=1.0 + number):
            return factor * (outputs - aims).square().mean()

        settings = (two_layer, parameters, inputs, targets, loss, Optimization("sgd", 0.01))
        with torch._dynamo.config.patch(fail_on_recompile_limit_hit=True):
            fast = train_ensemble(*settings, steps=3, engine="compiled")
        slow = train_ensemble(*settings, steps=3)
        assert distance(fast.parameters, slow.parameters) < 1e-13
    assert len(ensemble_step._compiled) <= ensemble_step.KEPT


def test_no_compiler_is_one_sentence(monkeypatch):
    parameters, (inputs, targets) = start(2), data()
    monkeypatch.setattr(ensemble_step, "compiler", lambda: None)
    with pytest.raises(InputError, match=r"engine: found no C\+\+ compiler"):
        train_ensemble(
            two_layer,
            parameters,
            inputs,
            targets,
            half_mean_square,
            Optimization("sgd", 0.1),
            steps=1,
            engine="compiled",
        )
