"""A soak test: training and evaluations for many minutes under seeded random faults end as a calm run does."""
