"""Ray Train and Ray Data, as their guides show."""
