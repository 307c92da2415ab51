"""Turns foreign formats into a `Source`, one file per format. The dataset code sees only the `Source`."""
