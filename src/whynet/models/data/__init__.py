"""Examples: rows of inputs and targets, from arrays, files, datasets and loaders."""

from whynet.models.data.examples import Examples
from whynet.models.data.load import load_data

__all__ = ["Examples", "load_data"]
