"""The commands of this project, for a terminal and for `ray job submit`: `python -m jobs.<name>`."""
