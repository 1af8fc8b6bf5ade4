from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

import whynet
from whynet.core import citations
from whynet.core.citations import Citation, bibliography, cite

SOURCE = Path(whynet.__file__).parent


def keys_used() -> Iterator[tuple[str, str]]:
    """Yield file and key for every literal that is passed as `cites` or to `cite`."""
    for path in sorted(SOURCE.rglob("*.py")):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if not isinstance(node, ast.Call):
                continue
            told = [word.value for word in node.keywords if word.arg == "cites"]
            if isinstance(node.func, ast.Name) and node.func.id == "cite":
                told += node.args
            for value in told:
                for leaf in ast.walk(value):
                    if isinstance(leaf, ast.Constant) and isinstance(leaf.value, str):
                        yield str(path.relative_to(SOURCE)), leaf.value


def test_every_key_in_the_source_is_in_the_bibliography() -> None:
    unknown = [(path, key) for path, key in keys_used() if key not in bibliography()]
    assert unknown == []


def test_every_entry_is_whole_and_none_stands_twice() -> None:
    text = (SOURCE / "core" / "references.bib").read_text(encoding="utf-8")
    keys = re.findall(r"^@\w+\{([^,]+),$", text, flags=re.MULTILINE)
    assert sorted(keys) == sorted(set(keys)) == sorted(bibliography())
    for key, citation in bibliography().items():
        assert citation.key == key
        assert re.fullmatch(r"[a-z]+(1|2)\d{3}[a-z]?", key)
        assert re.fullmatch(r"(1[89]|20)\d\d", citation.year)
        assert key.rstrip("abc").endswith(citation.year)
        assert citation.title
        assert citation.where
        assert citation.bibtex.startswith("@")
        assert citation.bibtex.endswith("}")
        assert "{" not in citation.title.replace("{", "", citation.title.count("}"))


def test_citations_are_shortened_by_the_number_of_authors() -> None:
    assert cite("guo2017").short == "Guo et al. 2017"
    assert cite("clopper1934").short == "Clopper and Pearson 1934"
    assert cite("hutchinson1990").short == "Hutchinson 1990"
    assert cite("guo2017").where == "arXiv:1706.04599"
    assert cite("clopper1934").where == "Biometrika 26"


def test_an_unknown_key_is_named() -> None:
    with pytest.raises(KeyError, match="nobody2099"):
        cite("nobody2099")


def test_an_entry_without_a_key_is_refused(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    (tmp_path / "references.bib").write_text("@book{\n}\n")
    monkeypatch.setattr(citations, "files", lambda _: tmp_path)
    with pytest.raises(ValueError, match="without a key"):
        bibliography.__wrapped__()


def test_a_citation_is_data() -> None:
    work = Citation("a2000", "Doe, J.", "T", "2000", "J", "@x{}")
    assert work.short == "Doe 2000"
