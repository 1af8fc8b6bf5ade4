"""Foreign names, cut so that they still tell layers apart."""

from __future__ import annotations

import pytest

from whynet.core.plain_text import layer_name

BLOCK = (
    "attention.self.query", "attention.self.key", "attention.self.value",
    "attention.output.dense", "intermediate.dense", "output.dense",
)  # fmt: skip


def test_layers_of_a_large_network_keep_names_of_their_own() -> None:
    paths = [f"bert.encoder.layer.{block}.{part}" for block in range(24) for part in BLOCK]
    paths += ["bert.pooler.dense", "classifier"]
    names = [layer_name(path) for path in paths]
    assert len({*names}) == len(names)
    assert max(map(len, names)) <= 26
    assert names[-2:] == paths[-2:], "what is short stays whole"


@pytest.mark.parametrize(
    ("path", "name"),
    [
        ("0", "0"),
        ("a" * 40, "…" + "a" * 25),
        ("*bold*.`code`", "bold.code"),
        ("blocks.3." + "b" * 30, "…" + "b" * 25),
        ("transformer.h.11.mlp.projection.dense", "…h.11.mlp.projection.dense"),
    ],
)
def test_names_are_cut_between_their_parts(path: str, name: str) -> None:
    assert layer_name(path) == name
