"""Measures against named peers: real programs, in turn, in fresh processes on the same cores; the ratio counts."""
