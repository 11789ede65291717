"""Pixels in and out; knows nothing of torch."""
