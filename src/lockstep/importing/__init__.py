"""How does data get in?  Readers of files, each yielding documents."""
