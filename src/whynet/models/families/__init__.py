"""Families of networks, one file each: `FAMILY` and its `build`."""
