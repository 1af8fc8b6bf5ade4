"""The loss landscape: how the loss changes between and around trained networks."""
