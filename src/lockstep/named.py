"""Python objects that users name: `package.module:name`."""

from __future__ import annotations

import importlib
import sys
from operator import attrgetter
from pathlib import Path

from lockstep.errors import ConfigError


def find(name: str, how: str) -> object:
    """What `module:name` names, where the name may have dots in it.

    Modules are looked for in the current folder, too, as `python` itself does.

    Args:
        name: as a user wrote it.
        how: what such a name looks like, for the hint.

    Raises:
        ConfigError: it is not there, or the module cannot be imported.
    """
    module, colon, inside = name.partition(":")
    if not colon or not module or not inside:
        raise ConfigError(f'"{name}" names no function.', how)
    here = str(Path.cwd())
    if here not in sys.path and "" not in sys.path:
        sys.path.insert(0, here)
    try:
        found = importlib.import_module(module)
    except ModuleNotFoundError as exc:
        if exc.name and (module == exc.name or module.startswith(f"{exc.name}.")):
            raise ConfigError(
                f'There is no Python module "{module}".', f"{how} It was looked for in {here}, too."
            ) from exc
        raise ConfigError(f'The module "{module}" needs the module "{exc.name}", which is not there.') from exc
    except (Exception, SystemExit) as exc:
        raise ConfigError(f'The module "{module}" cannot be imported: {type(exc).__name__}: {exc}.') from exc
    try:
        return attrgetter(inside)(found)
    except AttributeError as exc:
        raise ConfigError(f'The module "{module}" has no "{inside}".', how) from exc
