"""Keys by reference: where a key lies is kept, the key itself never; read when it is needed, shown nowhere."""

from __future__ import annotations

import os
import re
from collections.abc import Mapping, Sequence
from pathlib import Path

from lockstep.errors import ConfigError, MissingExtra
from lockstep.models.remote.wire import Request

SCHEMES = ("env", "file", "keyring")
VARIABLE = re.compile(r"[A-Za-z_][A-Za-z0-9_]*", re.ASCII)
KEY_LENGTH_MAX = 16_384
KEY_FORMS = 'Give "env:NAME", "file:PATH" or "keyring:SERVICE/USER".'


def check_reference(reference: str, what: str) -> None:
    """Refuse what is no reference, without repeating it: it may be the key itself.

    Raises:
        ConfigError: it has none of the forms.
    """
    scheme, colon, place = reference.partition(":")
    if not colon or scheme not in SCHEMES or not place.strip():
        raise ConfigError(f"{what} takes the place of a key, not the key itself.", KEY_FORMS)
    if scheme == "env" and not VARIABLE.fullmatch(place):
        raise ConfigError(f"{what} names an environment variable that cannot be one.", KEY_FORMS)
    if scheme == "keyring" and "/" not in place:
        raise ConfigError(f"{what} names no user of the keyring.", KEY_FORMS)


def read_key(reference: str, who: str) -> str:
    """The key that a reference stands for.

    Args:
        reference: `env:NAME`, `file:PATH` or `keyring:SERVICE/USER`.
        who: needs it, for messages: `Connection "openai"`.

    Raises:
        ConfigError: it is not there, is empty, or cannot be a key; names the place, never the value.
        MissingExtra: the keyring package is not installed.
    """
    scheme, _, place = reference.partition(":")
    where = in_words(reference)
    if scheme == "env":
        found = os.environ.get(place)
    elif scheme == "file":
        found = read_file(Path(place))
    else:
        found = read_keyring(place)
    if found is None:
        raise ConfigError(f"{who} needs a key, and {where} is not there.", hint(scheme, place))
    key = found.strip()
    if not key:
        raise ConfigError(f"{who} needs a key, and {where} is empty.", hint(scheme, place))
    if not key.isascii() or not key.isprintable() or " " in key or len(key) > KEY_LENGTH_MAX:
        raise ConfigError(f"{who} needs a key, and what {where} holds cannot be one.", "Copy it again.")
    return key


def in_words(reference: str) -> str:
    """Where a key lies."""
    scheme, _, place = reference.partition(":")
    kinds = {"env": "the environment variable {}", "file": "the file {}", "keyring": 'the keyring entry "{}"'}
    return kinds[scheme].format(place)


def hint(scheme: str, place: str) -> str:
    """How to put a key into its place."""
    if scheme == "env":
        return f"Set it: export {place}=…"
    if scheme == "file":
        return "Write the key into it, and nothing else."
    service, _, user = place.partition("/")
    return f"Put it there: keyring set {service} {user}"


def read_file(path: Path) -> str | None:
    """What a file holds; None when it is not there."""
    try:
        with path.expanduser().open(encoding="utf-8-sig") as file:
            return file.read(KEY_LENGTH_MAX + 2)
    except FileNotFoundError:
        return None
    except (OSError, RuntimeError, ValueError) as exc:  # ValueError: no text, or no path
        raise ConfigError(f"The key file {path} cannot be read: {type(exc).__name__}.") from exc


def read_keyring(place: str) -> str | None:
    """What the system's keyring holds."""
    try:
        import keyring
        from keyring.errors import KeyringError
    except ImportError as exc:
        raise MissingExtra("A key in the keyring", "keyring") from exc
    service, _, user = place.partition("/")
    try:
        found: str | None = keyring.get_password(service, user)
    except KeyringError as exc:
        raise ConfigError(f'The keyring cannot be asked for "{place}": {exc}.', "Unlock it, or use env:NAME.") from exc
    return found


class KeyAuth:
    """Signs by a key in a header; the key is read at the first request, again after `forget`."""

    def __init__(self, reference: str, who: str, header: str = "Authorization", prefix: str = "Bearer ") -> None:
        self._reference = reference
        self._who = who
        self._header = header
        self._prefix = prefix
        self._key: str | None = None

    @property
    def place(self) -> str:
        """Where the key lies, in words."""
        return in_words(self._reference)

    def headers(self, request: Request) -> Mapping[str, str]:
        """See `Auth.headers`."""
        del request
        if self._key is None:
            self._key = read_key(self._reference, self._who)
        return {self._header: self._prefix + self._key}

    def secrets(self) -> Sequence[str]:
        """See `Auth.secrets`."""
        return [self._key] if self._key else []

    def forget(self) -> None:
        """Read the key anew: the one that was read was refused, and may have been replaced."""
        self._key = None


class NoAuth:
    """For services that ask nobody who they are."""

    def headers(self, request: Request) -> Mapping[str, str]:
        """See `Auth.headers`."""
        del request
        return {}

    def secrets(self) -> Sequence[str]:
        """See `Auth.secrets`."""
        return []
