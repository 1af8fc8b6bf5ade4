"""What networks of a given depth and width can represent."""
