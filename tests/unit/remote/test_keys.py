"""Keys by reference: where they are read from, and that they are never shown."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from lockstep.errors import ConfigError, MissingExtra
from lockstep.models.remote.keys import KEY_LENGTH_MAX, KeyAuth, NoAuth, check_reference, read_key
from lockstep.models.remote.wire import Request

KEY = "sk-proj-0123456789abcdef"
WHO = 'Connection "x"'
REQUEST = Request("https://host.example", b"")


@pytest.mark.parametrize(
    "reference", ["env:KEY", "env:_k1", "file:/run/key", "file:~/a b", "keyring:service/user", "keyring:a/b/c"]
)
def test_references_that_are_allowed(reference: str) -> None:
    """The places where keys are kept."""
    check_reference(reference, "api_key")


@settings(max_examples=50, deadline=None)
@given(
    st.text(max_size=40).map(lambda text: f"{KEY}{text}")
    | st.sampled_from(
        ["", ":", "env:", "env: ", "file:", "keyring:", f"env:{KEY}", f"keyring:{KEY}", "env:A B", "env:Ä", "ENV:KEY"]
    )
)
def test_what_is_no_reference_is_refused_and_not_repeated(reference: str) -> None:
    """It may be the key itself."""
    with pytest.raises(ConfigError, match="api_key") as caught:
        check_reference(reference, "api_key")
    assert KEY not in str(caught.value)
    assert "env:NAME" in caught.value.hint


@pytest.fixture(params=["env", "file"])
def place(request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    """A place for a key; `put` fills it."""
    monkeypatch.delenv("TEST_KEY", raising=False)
    return "env:TEST_KEY" if request.param == "env" else f"file:{tmp_path / 'key'}"


def put(place: str, content: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Put a key into it."""
    scheme, _, where = place.partition(":")
    if scheme == "env":
        monkeypatch.setenv(where, content)
    else:
        Path(where).write_bytes(content.encode())


@pytest.mark.parametrize("content", [KEY, f"{KEY}\n", f"{KEY}\r\n", f"  {KEY}\t", f"\n\n{KEY}"])
def test_a_key_is_read_without_the_space_around_it(place: str, content: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """An editor's newline is no part of it."""
    put(place, content, monkeypatch)
    assert read_key(place, WHO) == KEY


def test_a_key_that_is_not_there_names_the_place_and_how_to_put_it_there(place: str) -> None:
    """And who needs it."""
    with pytest.raises(ConfigError, match="is not there") as caught:
        read_key(place, WHO)
    assert caught.value.message.startswith(WHO)
    assert place.partition(":")[2] in caught.value.message
    assert caught.value.hint


@pytest.mark.parametrize("content", ["", " ", "\n", "\t\r\n"])
def test_an_empty_place_is_an_error(place: str, content: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """No request goes out with half a header."""
    put(place, content, monkeypatch)
    with pytest.raises(ConfigError, match="is empty"):
        read_key(place, WHO)


@pytest.mark.parametrize(
    "content",
    [f"{KEY} {KEY}", f"{KEY}\n{KEY}", f"export A={KEY} ", f"{KEY}é", f"{KEY}\x1b", f"{KEY}\x7f", KEY * KEY_LENGTH_MAX],
)
def test_what_cannot_be_a_key_is_refused_and_not_shown(
    place: str, content: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A key in two lines, with a space or a control character would break the header, or smuggle in another."""
    if content == f"export A={KEY} ":
        content = content.replace("export A=", "export A =")
    put(place, content[: 2 * KEY_LENGTH_MAX], monkeypatch)
    with pytest.raises(ConfigError, match="cannot be one") as caught:
        read_key(place, WHO)
    assert KEY not in str(caught.value)


def test_a_byte_order_mark_is_no_part_of_a_key(tmp_path: Path) -> None:
    """Some editors write one."""
    (tmp_path / "key").write_bytes(b"\xef\xbb\xbf" + KEY.encode())
    assert read_key(f"file:{tmp_path / 'key'}", WHO) == KEY


def test_a_file_in_the_home_folder_is_found(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """`~` is the user's own."""
    monkeypatch.setenv("HOME", str(tmp_path))
    (tmp_path / "key").write_text(KEY)
    assert read_key("file:~/key", WHO) == KEY


@pytest.mark.parametrize("where", ["", "binary", "~nobody-of-this-name/key", "a\0b"])
def test_a_file_that_cannot_be_read_is_an_error_that_names_it(where: str, tmp_path: Path) -> None:
    """A folder, bytes that are no text, somebody who is not there."""
    (tmp_path / "binary").write_bytes(b"\xff\xfe\x00")
    place = where if where.startswith("~") else f"{tmp_path}/{where}"
    with pytest.raises(ConfigError, match="cannot be read"):
        read_key(f"file:{place}", WHO)


class TestKeyring:
    """The system's keyring."""

    @pytest.fixture
    def store(self) -> Iterator[dict[tuple[str, str], str]]:
        """A keyring of ours; the machine's own is put back."""
        import keyring
        from keyring.backend import KeyringBackend

        entries: dict[tuple[str, str], str] = {}

        class Fake(KeyringBackend):
            priority = 1  # type: ignore[assignment]

            def get_password(self, service: str, username: str) -> str | None:
                if service == "locked":
                    from keyring.errors import KeyringLocked

                    raise KeyringLocked("it is locked")
                return entries.get((service, username))

            def set_password(self, service: str, username: str, password: str) -> None:
                entries[service, username] = password

        before = keyring.get_keyring()
        keyring.set_keyring(Fake())
        yield entries
        keyring.set_keyring(before)

    def test_a_key_is_read_from_it(self, store: dict[tuple[str, str], str]) -> None:
        """By service and user; a slash in the user's name is part of it."""
        store["service", "user"] = f"{KEY}\n"
        store["service", "a/b"] = "other"
        assert read_key("keyring:service/user", WHO) == KEY
        assert read_key("keyring:service/a/b", WHO) == "other"

    def test_a_missing_entry_says_how_to_make_it(self, store: dict[tuple[str, str], str]) -> None:
        """As one types it."""
        with pytest.raises(ConfigError, match="is not there") as caught:
            read_key("keyring:service/user", WHO)
        assert caught.value.hint == "Put it there: keyring set service user"

    def test_an_empty_entry_is_an_error(self, store: dict[tuple[str, str], str]) -> None:
        """As in every other place."""
        store["service", "user"] = ""
        with pytest.raises(ConfigError, match="is empty"):
            read_key("keyring:service/user", WHO)

    def test_a_keyring_that_is_locked_says_so(self, store: dict[tuple[str, str], str]) -> None:
        """A person can unlock it."""
        with pytest.raises(ConfigError, match="it is locked"):
            read_key("keyring:locked/user", WHO)

    def test_without_the_package_it_says_what_to_install(self, monkeypatch: pytest.MonkeyPatch) -> None:
        """The other places need none."""
        monkeypatch.setitem(sys.modules, "keyring", None)
        with pytest.raises(MissingExtra, match=r"lockstep\[keyring\]"):
            read_key("keyring:service/user", WHO)


def test_a_key_is_read_at_the_first_request_and_again_when_it_was_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    """One that was replaced works without a restart."""
    monkeypatch.delenv("TEST_KEY", raising=False)
    auth = KeyAuth("env:TEST_KEY", WHO)
    assert auth.secrets() == []
    with pytest.raises(ConfigError):
        auth.headers(REQUEST)
    monkeypatch.setenv("TEST_KEY", "old")
    assert auth.headers(REQUEST) == {"Authorization": "Bearer old"}
    monkeypatch.setenv("TEST_KEY", "new")
    assert auth.headers(REQUEST) == {"Authorization": "Bearer old"}
    assert auth.secrets() == ["old"]
    auth.forget()
    assert auth.headers(REQUEST) == {"Authorization": "Bearer new"}
    assert "new" not in repr(auth)


def test_a_key_goes_into_the_header_that_its_service_reads(monkeypatch: pytest.MonkeyPatch) -> None:
    """With or without a word before it."""
    monkeypatch.setenv("TEST_KEY", KEY)
    assert KeyAuth("env:TEST_KEY", WHO, "api-key", "").headers(REQUEST) == {"api-key": KEY}


def test_without_a_key_nothing_is_sent() -> None:
    """And there is nothing to hide."""
    assert NoAuth().headers(REQUEST) == {}
    assert NoAuth().secrets() == []
