"""Trained models in memory, behind one protocol: images in, probabilities out, whatever runs the graph."""
