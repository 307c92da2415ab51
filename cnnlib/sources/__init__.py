"""Sources: one file per foreign format turns its files into a `Source`. Past these files only rows exist."""
