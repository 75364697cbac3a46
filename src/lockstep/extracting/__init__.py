"""Which text of a document is embedded?"""

from lockstep.extracting.paths import Path, compile_path, extract

__all__ = ["Path", "compile_path", "extract"]
