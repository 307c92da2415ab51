"""The registered models: what they are, which options they have, and how they are built."""
