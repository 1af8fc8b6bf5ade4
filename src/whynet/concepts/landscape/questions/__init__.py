"""Questions on the loss landscape."""
