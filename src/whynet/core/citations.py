"""The literature: one bibliography, keys on objects."""

from __future__ import annotations

import re
from dataclasses import dataclass
from functools import cache
from importlib.resources import files


@dataclass(frozen=True)
class Citation:
    """One work of `references.bib`.

    Attributes:
        key: the key that objects carry.
        authors: as in the bibliography.
        title: title of the work.
        year: year of publication.
        where: arXiv id, journal or book.
        bibtex: the whole entry.

    """

    key: str
    authors: str
    title: str
    year: str
    where: str
    bibtex: str

    @property
    def short(self) -> str:
        """`Guo et al. 2017`, the form that stands under a finding."""
        names = [name.split(",")[0].strip() for name in self.authors.split(" and ")]
        if len(names) == 1:
            who = names[0]
        elif len(names) == 2:
            who = f"{names[0]} and {names[1]}"
        else:
            who = f"{names[0]} et al."
        return f"{who} {self.year}"


@cache
def bibliography() -> dict[str, Citation]:
    """Read `references.bib`; key to citation."""
    text = files("whynet.core").joinpath("references.bib").read_text(encoding="utf-8")
    works = {}
    for entry in re.findall(r"@\w+\{.*?\n\}", text, flags=re.DOTALL):
        key = re.match(r"@\w+\{([^,]+),", entry)
        if key is None:
            raise ValueError(f"references.bib holds an entry without a key: {entry[:60]!r}")
        fields = dict(re.findall(r"^\s*(\w+)\s*=\s*\{(.*)\},?\s*$", entry, flags=re.MULTILINE))
        where = (
            f"arXiv:{fields['eprint']}"
            if "eprint" in fields
            else fields.get("journal") or fields.get("booktitle") or fields.get("publisher", "")
        )
        works[key[1]] = Citation(
            key[1], fields["author"], fields["title"], fields["year"], where, entry
        )
    return works


def cite(key: str) -> Citation:
    """Return the citation of a key; a `KeyError` names a key that is not in the bibliography."""
    return bibliography()[key]
