"""The shape of a family of networks: how one is built, and what is true of all its members."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Final

from whynet.core.tags import TAGS

FAMILY_TAGS: Final[dict[str, str]] = {
    "homogeneous": "f(c θ) = c^L f(θ) for every c > 0 and a fixed degree L",
    "smooth": "the output has derivatives of every order in the parameters",
}
"""Facts about a family beside those of `whynet.core.tags`, with their definitions."""


@dataclass(frozen=True)
class Family:
    """What the registry knows of a family of networks (`whynet.models.families`).

    Attributes:
        title: what the family is, a phrase.
        build: returns a fresh network of the family, drawing its weights from the global random
            generator of torch; the arguments are the family's own.
        parametrizations: values that `build` accepts as `parametrization`.
        tags: facts (`whynet.core.tags.TAGS` and `FAMILY_TAGS`) that hold for the networks that
            `build` returns with its default keywords; tests check them against such networks.
        infinite_width: whether the limits of its kernels at infinite width have a closed form.

    Raises:
        ValueError: a tag that is defined nowhere, or no parametrization.

    """

    title: str
    build: Callable[..., Any]
    parametrizations: tuple[str, ...]
    tags: tuple[str, ...]
    infinite_width: bool

    def __post_init__(self) -> None:
        unknown = [tag for tag in self.tags if tag not in TAGS and tag not in FAMILY_TAGS]
        if unknown:
            raise ValueError(f"family {self.title!r} carries undefined tags {unknown}")
        if not self.parametrizations:
            raise ValueError(f"family {self.title!r} names no parametrization")
