"""Distributed training and exact evaluation of Keras CNNs on Ray."""
