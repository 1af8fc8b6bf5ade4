"""Loading what a user names: networks, their weights, and the code behind a reference."""

from whynet.models.load.model import LoadedModel, load_model
from whynet.models.load.reference import is_code
from whynet.models.load.weights import load_weights

__all__ = ["LoadedModel", "is_code", "load_model", "load_weights"]
