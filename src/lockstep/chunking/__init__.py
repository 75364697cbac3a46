"""How is a text cut?  One packer, and per kind of text the places where it may be cut."""

from lockstep.chunking.chunker import chunk_texts

__all__ = ["chunk_texts"]
