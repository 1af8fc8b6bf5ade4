"""The concepts of the field: each with its instruments, theory, questions and claims."""
