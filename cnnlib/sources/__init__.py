"""Where rows come from: one file per format. Past these files only rows exist."""
