"""Plain Keras 3, with its defaults."""
