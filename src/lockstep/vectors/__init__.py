"""How is a vector kept, and compared?"""
