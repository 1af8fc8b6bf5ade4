"""The atlas: claims, their groups, their store, their verdicts."""
