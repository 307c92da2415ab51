"""Compares our programs with named peers: both run in turn, in fresh processes on the same cores."""
