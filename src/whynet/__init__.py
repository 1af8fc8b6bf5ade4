"""whynet: an executable laboratory for the mathematics of deep learning.

Examine a trained network:

    subject = whynet.Subject(model, train=(X, y), test=(X_test, y_test), loss="cross_entropy")
    whynet.examine(subject).save("out/")

Names are loaded when they are first used, so that importing whynet costs nothing.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from whynet.atlas.run import claim as claim
    from whynet.concepts import curvature as curvature
    from whynet.concepts import kernels as kernels
    from whynet.concepts import regions as regions
    from whynet.concepts.condensation.reduction import condense as condense
    from whynet.concepts.measuring import measure as measure
    from whynet.core.errors import InputError as InputError
    from whynet.core.errors import StoreError as StoreError
    from whynet.core.estimate import Estimate as Estimate
    from whynet.core.measurement import Measurement as Measurement
    from whynet.core.outcome import Failed as Failed
    from whynet.core.outcome import NotApplicable as NotApplicable
    from whynet.examination.comparison import compare as compare
    from whynet.examination.examine import examine as examine
    from whynet.examination.verification import verify as verify
    from whynet.models.free_widths import load_resized as load_resized
    from whynet.models.retraining import Trainer as Trainer
    from whynet.models.subject import Subject as Subject
    from whynet.models.trajectory import Trajectory as Trajectory
    from whynet.training.recorder import Recorder as Recorder

__version__ = "0.1.0"

_HOMES = {
    "Subject": "whynet.models.subject",
    "Trainer": "whynet.models.retraining",
    "Recorder": "whynet.training.recorder",
    "Trajectory": "whynet.models.trajectory",
    "examine": "whynet.examination.examine",
    "compare": "whynet.examination.comparison",
    "claim": "whynet.atlas.run",
    "measure": "whynet.concepts.measuring",
    "condense": "whynet.concepts.condensation.reduction",
    "load_resized": "whynet.models.free_widths",
    "verify": "whynet.examination.verification",
    "Estimate": "whynet.core.estimate",
    "Measurement": "whynet.core.measurement",
    "NotApplicable": "whynet.core.outcome",
    "Failed": "whynet.core.outcome",
    "InputError": "whynet.core.errors",
    "StoreError": "whynet.core.errors",
}

_CONCEPTS = {
    "curvature": "whynet.concepts.curvature",
    "kernels": "whynet.concepts.kernels",
    "regions": "whynet.concepts.regions",
}

__all__ = [*_HOMES, *_CONCEPTS, "__version__"]


def __getattr__(name: str) -> Any:
    if name in _CONCEPTS:
        value = importlib.import_module(_CONCEPTS[name])
    elif name in _HOMES:
        value = getattr(importlib.import_module(_HOMES[name]), name)
    else:
        raise AttributeError(f"module 'whynet' has no attribute {name!r}")
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted([*__all__, *globals()])
