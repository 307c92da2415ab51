"""Programs as their documentation would have a user write them. Each prints its figure as JSON on its last line.

They use nothing of this project but the builder of the model, so that none of its speed is theirs.
"""
