"""Every benchmark, one after the other: `python -m bench [--quick]`."""

from __future__ import annotations

from bench import cache, chunking, edits, minilm, providers, quantization, scripts, search, sync

sync.main()
edits.main()
chunking.main()
scripts.main()
quantization.main()
cache.main()
providers.main()
minilm.main()
search.main()
