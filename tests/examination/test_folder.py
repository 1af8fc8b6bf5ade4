from __future__ import annotations

import dataclasses
import hashlib
import json
from pathlib import Path

import numpy as np
import pytest
import torch
import xarray as xr
from safetensors.torch import load_file
from tests.examination.small import small_subject
from torch import nn

from whynet.core.errors import InputError, StoreError
from whynet.core.measurement import Measurement
from whynet.examination.examine import Examination, examine
from whynet.examination.folder import (
    HASHED,
    WRITTEN,
    check_out,
    read_cites,
    read_manifest,
    read_results,
    save_weights,
)


@pytest.fixture(scope="module")
def examination() -> Examination:
    return examine(small_subject(), only=["fit", "calibration"])


def test_two_saves_are_equal_byte_by_byte(examination: Examination, tmp_path: Path) -> None:
    for name in ("a", "b"):
        assert examination.save(str(tmp_path / name)) == str(tmp_path / name / "report.html")
    for file in ("report.html", "summary.json", "manifest.toml", "weights.safetensors"):
        assert (tmp_path / "a" / file).read_bytes() == (tmp_path / "b" / file).read_bytes()
    assert {path.name for path in (tmp_path / "a").iterdir()} <= WRITTEN


def test_two_examinations_differ_in_seconds_alone(examination: Examination, tmp_path: Path) -> None:
    def saved(one: Examination, name: str) -> tuple[str, str]:
        answers = tuple(
            dataclasses.replace(
                answer,
                receipts=tuple(dataclasses.replace(r, seconds=1.0) for r in answer.receipts),
            )
            for answer in one.report.answers
        )
        report = dataclasses.replace(one.report, answers=answers, seconds=1.0)
        dataclasses.replace(one, report=report).save(str(tmp_path / name))
        return tuple(  # type: ignore[return-value]
            (tmp_path / name / file).read_text(encoding="utf-8")
            for file in ("report.html", "summary.json")
        )

    again = examine(small_subject(), only=["fit", "calibration"])
    assert saved(examination, "a") == saved(again, "b")


def test_results_open_with_plain_xarray(examination: Examination, tmp_path: Path) -> None:
    examination.save(str(tmp_path / "a"))
    with xr.open_datatree(tmp_path / "a/results.zarr", engine="zarr", consolidated=False) as store:
        accuracy = store["trained/fit/accuracy"]
        assert accuracy.attrs["unit"] == "fraction" and accuracy.attrs["kind"] == "certified"
        assert list(accuracy["split"].values) == ["train", "test"]
        assert {"accuracy_low", "accuracy_high"} <= set(store["trained/fit"].data_vars)
        assert "initial/fit" in store.to_dict().keys() | {p.strip("/") for p in store.groups}


def test_results_read_back_as_they_were(examination: Examination, tmp_path: Path) -> None:
    examination.save(str(tmp_path / "a"))
    for view, kept in (
        ("trained", examination.report.outcomes), ("initial", examination.report.others["initial"]),
    ):  # fmt: skip
        found = read_results(tmp_path / "a", view)
        assert found.keys() == kept.keys()
        for name, measured in found.items():
            own = kept[name]
            assert isinstance(own, Measurement)
            assert measured.cites == own.cites and set(measured.names) == set(own.names)
            for quantity in own.names:
                np.testing.assert_array_equal(measured.values(quantity), own.values(quantity))
    assert {"clopper1934", "zhang2017", "guo2017"} <= read_cites(tmp_path / "a")


def test_the_manifest_of_a_python_examination(examination: Examination, tmp_path: Path) -> None:
    examination.save(str(tmp_path / "a"))
    manifest = read_manifest(tmp_path / "a")
    assert manifest.target == "" and manifest.loss == "cross_entropy"
    assert manifest.dtype == "float32" and manifest.rounds == {"fit": 1, "calibration": 1}
    train = examination.subject.train
    assert train is not None and manifest.sha256["train"] == train.sha256
    for role, name in HASHED.items():
        digest = hashlib.sha256((tmp_path / "a" / name).read_bytes()).hexdigest()
        assert manifest.sha256[role] == digest


class Tied(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.a = nn.Linear(3, 3, bias=False)
        self.b = nn.Linear(3, 3, bias=False)
        self.b.weight = self.a.weight
        self.register_buffer("view", torch.arange(12.0).reshape(3, 4).T)


def test_weights_keep_ties_and_buffers(tmp_path: Path) -> None:
    network = Tied()
    save_weights(network, tmp_path / "w.safetensors")
    state = load_file(tmp_path / "w.safetensors")
    assert state.keys() == network.state_dict().keys()
    assert all(torch.equal(state[k], v) for k, v in network.state_dict().items())
    save_weights(nn.ReLU(), tmp_path / "none.safetensors")
    assert load_file(tmp_path / "none.safetensors") == {}


def test_checking_a_place_leaves_nothing_behind(tmp_path: Path) -> None:
    assert check_out(tmp_path / "a/b/../c") == (tmp_path / "a/c").resolve()
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("name", ["notes.txt", ".git", "report.html.bak", "weights"])
def test_what_someone_put_into_a_report_is_not_thrown_away(
    examination: Examination, tmp_path: Path, name: str
) -> None:
    examination.save(str(tmp_path / "a"))
    examination.save(str(tmp_path / "a"))
    (tmp_path / "a" / name).touch()
    with pytest.raises(InputError, match=f"path: found the folder .* other content .*{name}"):
        examination.save(str(tmp_path / "a"))
    assert (tmp_path / "a" / name).exists()


def test_part_of_a_report_is_not_replaced(examination: Examination, tmp_path: Path) -> None:
    examination.save(str(tmp_path / "a"))
    (tmp_path / "a/summary.json").unlink()
    with pytest.raises(InputError, match="part of a report"):
        check_out(tmp_path / "a")


@pytest.mark.parametrize(
    "content", ["", "{", "[]", '{"findings": 3}', '{"findings": [{}]}', "[" * 9999]
)
def test_a_damaged_summary_is_no_bug_of_ours(
    examination: Examination, tmp_path: Path, content: str
) -> None:
    examination.save(str(tmp_path / "a"))
    (tmp_path / "a/summary.json").write_text(content, encoding="utf-8")
    with pytest.raises(StoreError, match=r"summary\.json that cannot be read"):
        read_cites(tmp_path / "a")


def test_the_summary_is_what_json_reads(examination: Examination, tmp_path: Path) -> None:
    examination.save(str(tmp_path / "a"))
    content = json.loads((tmp_path / "a/summary.json").read_bytes())
    assert content["numbers"]["test_accuracy"]["kind"] == "certified"


@pytest.mark.parametrize("key", ["shape", "chunk"])
def test_arrays_too_large_to_be_measurements_get_no_memory(
    examination: Examination, tmp_path: Path, key: str
) -> None:
    examination.save(str(tmp_path / "a"))
    for name in ("loss", "loss_low", "loss_high", "accuracy", "split"):
        file = next((tmp_path / "a/results.zarr/trained/fit").glob(f"{name}/zarr.json"))
        about = json.loads(file.read_bytes())
        if key == "shape":
            about["shape"] = [2**40]
        about["chunk_grid"]["configuration"]["chunk_shape"] = [2**40]
        file.write_text(json.dumps(about), encoding="utf-8")
    with pytest.raises(StoreError, match=r"numbers, of at most 134,217,728"):
        read_results(tmp_path / "a")
