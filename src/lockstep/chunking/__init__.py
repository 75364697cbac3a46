"""How is a text cut?  One packer, and per kind of text the places where it may be cut."""

from lockstep.chunking.chunker import chunk_texts
from lockstep.chunking.html import strip_html

__all__ = ["chunk_texts", "strip_html"]
