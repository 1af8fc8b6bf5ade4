from __future__ import annotations

import dataclasses
import shlex
import tomllib
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from whynet.core.errors import InputError, StoreError
from whynet.examination.manifest import (
    Request,
    _value,
    check_values,
    measure_command,
    option,
    read_toml,
    to_toml,
)

NASTY = st.one_of(
    st.text(),
    st.text(alphabet="\"'\\\n\r\t\b\f\x00\x1b\x7f\x85\u2028\ufeff[]{}#=,. aé𝄞"),
    st.sampled_from(['"""', "'''", "\\u0041", "a\r\nb", "= 3\n[rounds]\nx = 1", "-x", ""]),
)
NUMBER = st.integers(-(2**63), 2**63)


@st.composite
def requests(draw: st.DrawFn) -> Request:
    """Any request at all, sound or not."""
    values: dict[str, object] = {}
    for entry in dataclasses.fields(Request):
        default = getattr(Request(), entry.name)
        if entry.name in ("rounds", "sha256"):
            values[entry.name] = draw(
                st.dictionaries(NASTY, NUMBER if entry.name == "rounds" else NASTY, max_size=3)
            )
        elif entry.name == "reached":
            values[entry.name] = draw(
                st.dictionaries(NASTY, st.lists(NASTY, max_size=3).map(tuple), max_size=3)
            )
        elif isinstance(default, tuple):
            values[entry.name] = tuple(draw(st.lists(NASTY, max_size=3)))
        elif entry.name in ("threads", "seeds"):
            values[entry.name] = draw(st.none() | NUMBER)
        elif isinstance(default, int):
            values[entry.name] = draw(NUMBER)
        else:
            values[entry.name] = draw(NASTY if default is not None else st.none() | NASTY)
    return Request(**values)  # type: ignore[arg-type]


@given(requests())
def test_a_manifest_reads_back_as_it_was(
    tmp_path_factory: pytest.TempPathFactory, asked: Request
) -> None:
    file = tmp_path_factory.getbasetemp() / "manifest.toml"
    file.write_bytes(to_toml(asked).encode("utf-8"))
    assert Request(**read_toml(file)) == asked


def test_a_manifest_is_written_the_same_every_time() -> None:
    one = Request(rounds={"b": 1, "a": 2}, sha256={"x": "1", "w": "2"})
    other = Request(rounds={"a": 2, "b": 1}, sha256={"w": "2", "x": "1"})
    assert to_toml(one) == to_toml(other)
    assert tomllib.loads(to_toml(one))["schema_version"] == "1.0"


@given(st.binary(max_size=200) | st.text(max_size=200).map(str.encode))
def test_any_file_is_a_configuration_or_a_sentence(
    tmp_path_factory: pytest.TempPathFactory, content: bytes
) -> None:
    file = tmp_path_factory.getbasetemp() / "any.toml"
    file.write_bytes(content)
    try:
        Request(**read_toml(file))
    except InputError as error:
        assert error.argument == "--config" and error.found and error.wanted


@given(st.dictionaries(st.sampled_from([f.name for f in dataclasses.fields(Request)]), NASTY))
def test_text_where_something_else_belongs(
    tmp_path_factory: pytest.TempPathFactory, values: dict[str, str]
) -> None:
    file = tmp_path_factory.getbasetemp() / "values.toml"
    lines = [f"{name} = {_value(value)}" for name, value in values.items()]
    file.write_text("\n".join(lines), encoding="utf-8")
    texts = {
        name
        for name in values
        if name not in ("threads", "seeds")
        and not isinstance(getattr(Request(), name), int | tuple | dict)
    }
    if texts == set(values):
        assert read_toml(file) == values
    else:
        with pytest.raises(InputError, match="wanted a"):
            read_toml(file)


@pytest.mark.parametrize("version", ["1.0", "1.9", "0.3"])
def test_versions_that_are_read(tmp_path: Path, version: str) -> None:
    (tmp_path / "c").write_text(f'schema_version = "{version}"', encoding="utf-8")
    assert read_toml(tmp_path / "c") == {}


@pytest.mark.parametrize("version", ['"2.0"', '"10.0"', '"x"', "1.0", "[]", '"1"', '"-1.0"'])
def test_versions_that_are_refused(tmp_path: Path, version: str) -> None:
    (tmp_path / "c").write_text(f"schema_version = {version}", encoding="utf-8")
    with pytest.raises(StoreError, match="schema_version"):
        read_toml(tmp_path / "c")


@pytest.mark.parametrize(
    ("changes", "argument"),
    [
        ({"batch_size": 0}, "batch_size"),
        ({"batch_size": 2**32}, "batch_size"),
        ({"seed": -1}, "seed"),
        ({"seed": 2**63}, "seed"),
        ({"budget": "never"}, "budget"),
        ({"memory": "much"}, "memory"),
        ({"only": ("fit", "\udcff")}, "only"),
        ({"target": "\udcff.py:f"}, "target"),
    ],
)
def test_values_that_no_run_can_have(changes: dict[str, object], argument: str) -> None:
    with pytest.raises(InputError) as refused:
        check_values(dataclasses.replace(Request(), **changes))  # type: ignore[arg-type]
    assert refused.value.argument == argument


def test_options_are_called_as_on_the_command_line() -> None:
    assert [option(name) for name in ("target", "target_column", "batch_size")] == [
        "TARGET", "--target", "--batch-size",
    ]  # fmt: skip


def test_a_receipt_is_one_line_of_shell() -> None:
    asked = Request(target="my model.py:f", weights="a.pt", seed=3, test="-x.npz", budget="2m")
    words = shlex.split(measure_command(asked, "fit", 4, "out dir/weights.safetensors"))
    assert words == [
        "whynet", "measure", "fit", "my model.py:f", "--weights", "out dir/weights.safetensors",
        "--test=-x.npz", "--seed", "3", "--rounds", "4",
    ]  # fmt: skip
