"""Built-in subjects: real data from scikit-learn and a network, one file each."""
