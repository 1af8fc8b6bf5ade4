"""The shared words of whynet: no networks, nothing optional, nothing heavy at import."""
