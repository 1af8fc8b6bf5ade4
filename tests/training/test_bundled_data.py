from __future__ import annotations

import numpy as np
import pytest
from sklearn import datasets

from whynet.training import bundled_data

SPLITS = {
    "digits": (lambda: bundled_data.digits((64,)), "load_digits", 1437, 360),
    "breast_cancer": (bundled_data.breast_cancer, "load_breast_cancer", 455, 114),
    "diabetes": (bundled_data.diabetes, "load_diabetes", 353, 89),
}


@pytest.mark.parametrize("name", SPLITS)
def test_splits_are_fixed_disjoint_and_hold_every_row(name: str) -> None:
    load, loader, count, held_out = SPLITS[name]
    (train, train_targets), (test, test_targets) = load()
    assert (len(train), len(train_targets)) == (count, count)
    assert (len(test), len(test_targets)) == (held_out, held_out)
    assert train.dtype == test.dtype == np.float32
    together = np.unique(np.concatenate([train, test]).reshape(count + held_out, -1), axis=0)
    original, _ = getattr(datasets, loader)(return_X_y=True)
    assert len(together) == len(np.unique(original, axis=0)) == count + held_out
    again = load()
    np.testing.assert_array_equal(again[0][0], train)
    np.testing.assert_array_equal(again[1][1], test_targets)


def test_digits_lie_between_zero_and_one_in_any_shape() -> None:
    (flat, labels), (test, test_labels) = bundled_data.digits((64,))
    assert (flat.min(), flat.max()) == (0.0, 1.0)
    assert test.shape == (360, 64)
    images = bundled_data.digits((1, 8, 8))[0][0]
    np.testing.assert_array_equal(images.reshape(-1, 64), flat)
    assert labels.dtype == test_labels.dtype == np.int64


@pytest.mark.parametrize("name", ["digits", "breast_cancer"])
def test_splits_are_stratified(name: str) -> None:
    (_, train), (_, test) = SPLITS[name][0]()
    for label in np.unique(train):
        assert abs((train == label).mean() - (test == label).mean()) < 0.01


@pytest.mark.parametrize("name", ["breast_cancer", "diabetes"])
def test_only_training_rows_were_used_to_standardize(name: str) -> None:
    train, test = SPLITS[name][0]()
    scaled = [0, 1] if name == "diabetes" else [0]
    for index in scaled:
        np.testing.assert_allclose(train[index].mean(axis=0), 0, atol=1e-5)
        np.testing.assert_allclose(train[index].std(axis=0), 1, atol=1e-5)
        assert np.abs(test[index].mean(axis=0)).max() > 0.01
    if name == "breast_cancer":
        assert set(np.unique(test[1])) == {0.0, 1.0}


def test_diabetes_targets_keep_their_order() -> None:
    _, raw = datasets.load_diabetes(return_X_y=True, scaled=False)
    (_, train), (_, test) = bundled_data.diabetes()
    scaled = np.sort(np.concatenate([train, test]))
    slope, offset = np.polyfit(np.sort(raw), scaled, 1)
    np.testing.assert_allclose(scaled, slope * np.sort(raw) + offset, atol=1e-4)
