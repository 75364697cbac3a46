"""Work that may hang, crash or eat memory, done in processes of its own: they are killed, and this one goes on.

A program that runs apart is one file beside this one. `serving.py` runs it and knows nothing else of Lockstep.
"""

from lockstep.extracting.apart.pool import Died, Limits, Pool

__all__ = ["Died", "Limits", "Pool"]
