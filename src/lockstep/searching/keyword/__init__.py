"""Search by words: what a query's words are, which chunks have them, and where in a text they stand."""
