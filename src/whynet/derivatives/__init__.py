"""Which way of differentiating a network is right, and the products it gives."""
