"""What `ray job submit` and a person at a terminal run: `python -m jobs.<name>`."""
