"""Lockstep keeps vector embeddings in step with your data."""

__version__ = "0.1.0"
