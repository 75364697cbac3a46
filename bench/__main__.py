"""Every benchmark, one after the other: `python -m bench [--quick]`."""

from __future__ import annotations

from bench import minilm, providers, sync

sync.main()
providers.main()
minilm.main()
