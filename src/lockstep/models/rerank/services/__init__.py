"""The protocols of reranking services, each a file; `kinds.py` says who speaks which."""
