"""How is a text cut?  One packer, and per kind of text the places where it may be cut."""
