"""Measurements that anyone can repeat: `python -m bench`, or one of them with `python -m bench.sync`."""
