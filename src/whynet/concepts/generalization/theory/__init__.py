"""Theory of generalization."""
