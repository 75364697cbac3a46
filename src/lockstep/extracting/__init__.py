"""Which text of a document is embedded?"""

from lockstep.extracting.base import Extractor
from lockstep.extracting.paths import Path, compile_path, extract

__all__ = ["Extractor", "Path", "compile_path", "extract"]
