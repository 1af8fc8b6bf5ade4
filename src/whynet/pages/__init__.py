"""What every page is made of: words, strips, figures, one style."""
