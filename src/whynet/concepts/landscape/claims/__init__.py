"""Claims about loss landscapes."""
