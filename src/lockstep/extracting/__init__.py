"""Which text of a document is embedded?"""

from lockstep.extracting.base import Extractor
from lockstep.extracting.fields import FieldsExtractor
from lockstep.extracting.files import FilesExtractor, FileText, read_file
from lockstep.extracting.function import FunctionExtractor, load_function
from lockstep.extracting.paths import Path, compile_path, extract
from lockstep.extracting.script import ScriptExtractor, ScriptLimits, compile_script
from lockstep.extracting.several import SeveralExtractor
from lockstep.extracting.template import Prefixes, Template, TemplateExtractor, compile_template

__all__ = [
    "Extractor",
    "FieldsExtractor",
    "FileText",
    "FilesExtractor",
    "FunctionExtractor",
    "Path",
    "Prefixes",
    "ScriptExtractor",
    "ScriptLimits",
    "SeveralExtractor",
    "Template",
    "TemplateExtractor",
    "compile_path",
    "compile_script",
    "compile_template",
    "extract",
    "load_function",
    "read_file",
]
