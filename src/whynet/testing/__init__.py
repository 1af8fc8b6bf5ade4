"""The public conformance suite: what every instrument must hold, ours or a third party's."""
