"""`connection …`: accounts at services, by name."""

from __future__ import annotations

import os
import warnings
from dataclasses import asdict
from typing import TYPE_CHECKING, Annotated, Any

import typer

from lockstep.app.commands.arguments import DatabasePath, Json, Yes, open_existing
from lockstep.app.output import as_json, command, line, note, table

if TYPE_CHECKING:
    from lockstep.models.remote.connection import Connection

app = typer.Typer(
    help="Accounts at embedding services, shared by tasks: add, list, test, remove, kinds.", no_args_is_help=True
)
Name = Annotated[str, typer.Argument(metavar="NAME", help="What model names begin with: NAME:model.")]


@app.command("add")
def add(
    database: DatabasePath,
    name: Name,
    *,
    kind: Annotated[str, typer.Option("--kind", "-k", help="See: lockstep connection kinds")] = "openai",
    base_url: Annotated[str | None, typer.Option("--base-url", "-u", help="Where the service is.")] = None,
    api_key: Annotated[
        str | None, typer.Option("--api-key", help="Where its key lies: env:NAME, file:PATH, keyring:SERVICE/USER.")
    ] = None,
    search_api_key: Annotated[str | None, typer.Option("--search-api-key", help="Another for searches.")] = None,
    requests_per_minute: Annotated[int | None, typer.Option("--requests-per-minute", help="At most.")] = None,
    tokens_per_minute: Annotated[int | None, typer.Option("--tokens-per-minute", help="At most.")] = None,
    search_requests_per_minute: Annotated[
        int | None, typer.Option("--search-requests-per-minute", help="A limit of its own for searches.")
    ] = None,
    search_tokens_per_minute: Annotated[
        int | None, typer.Option("--search-tokens-per-minute", help="Likewise.")
    ] = None,
    in_flight: Annotated[int | None, typer.Option("--in-flight", help="Requests at once; 32 by default.")] = None,
    texts_per_request: Annotated[
        int | None, typer.Option("--texts-per-request", help="128 by default, where the service takes as many.")
    ] = None,
    timeout_s: Annotated[float | None, typer.Option("--timeout-s", help="Of a request; 60 by default.")] = None,
    ca_file: Annotated[str | None, typer.Option("--ca-file", help="Certificates to trust, PEM.")] = None,
    proxy: Annotated[str | None, typer.Option("--proxy", help="Instead of HTTPS_PROXY.")] = None,
    price: Annotated[
        float | None, typer.Option("--price", help="US dollars per million tokens, instead of the list price.")
    ] = None,
    setting: Annotated[
        list[str] | None, typer.Option("--set", metavar="NAME=VALUE", help="What only this kind has; repeatable.")
    ] = None,
    replace: Annotated[bool, typer.Option("--replace", help="In place of the one that has this name.")] = False,
) -> None:
    """Name an account; its key stays where it is."""
    with open_existing(database) as db, warnings.catch_warnings(record=True) as warned:
        warnings.simplefilter("always")
        made = db.add_connection(
            name,
            kind,
            base_url,
            api_key,
            replace=replace,
            search_api_key=search_api_key,
            requests_per_minute=requests_per_minute,
            tokens_per_minute=tokens_per_minute,
            search_requests_per_minute=search_requests_per_minute,
            search_tokens_per_minute=search_tokens_per_minute,
            in_flight=in_flight,
            texts_per_request=texts_per_request,
            timeout_s=timeout_s,
            ca_file=ca_file,
            proxy=proxy,
            price_per_million_tokens=price,
            **settings_of(setting or []),
        )
    for warning in warned:
        note(str(warning.message), fg="yellow")
    line(f"Connection {made.name}: {made.kind} at {made.url}.")
    note(f"Next: {command('connection', 'test', database, made.name)}")


@app.command("list")
def list_(database: DatabasePath, json: Json = False) -> None:
    """The connections that were added, and the tasks that use them."""
    with open_existing(database) as db:
        found = db.connections()
        tasks = db.tasks()
    users = {each.name: [task.name for task in tasks if task.model.startswith(f"{each.name}:")] for each in found}
    if json:
        as_json([{**given(each), "tasks": users[each.name]} for each in found])
    elif found:
        heads = ["connection", "kind", "address", "key", "tasks"]
        table(heads, [[c.name, c.kind, c.url, key_of(c), ", ".join(users[c.name]) or "-"] for c in found])
    else:
        note(f"None was added; every kind has one of its own name. See: {command('connection', 'kinds')}")


@app.command("test")
def test(
    database: DatabasePath,
    name: Name,
    model: Annotated[str | None, typer.Option("--model", "-m", help="A model there.")] = None,
    json: Json = False,
) -> None:
    """Embed two samples: dimensions, latency, limits, or what is wrong."""
    with open_existing(database) as db:
        found = db.test_connection(name, model)
        warning = next((each.warning for each in db.connections() if each.name == name), None)
    if json:
        as_json(asdict(found))
        return
    line(f"{'model':24} {found.model}")
    line(f"{'dimensions':24} {found.dimensions}")
    line(
        f"{'latency':24} {found.latency_ms[0]:.0f} ms with the connection's opening, then {found.latency_ms[1]:.0f} ms"
    )
    line(f"{'tokens of both samples':24} {found.tokens}")
    for what, limit in (("requests", found.requests_per_minute), ("tokens", found.tokens_per_minute)):
        line(f"{what + ' a minute':24} {'no limit known' if limit is None else f'{limit:,.0f}'}")
    price = found.price_per_million_tokens
    line(f"{'price':24} {'not known' if price is None else f'${price:g} per million tokens'}")
    if warning:
        note(warning, fg="yellow")


@app.command("remove")
def remove(database: DatabasePath, name: Name, yes: Yes = False) -> None:
    """Forget a connection that no task uses."""
    from lockstep.app.commands.data import ask
    from lockstep.errors import ConfigError

    with open_existing(database) as db:
        # Whether it may go is found out before anybody is asked.
        used = any(task.model.startswith(f"{name}:") for task in db.tasks())
        known = any(each.name == name for each in db.connections())
        if known and not used and not (yes or ask(f"Remove connection {name}?")):
            raise ConfigError(f"Connection {name} was not removed.", "Say --yes to remove it without a question.")
        db.remove_connection(name)
    note(f"Connection {name} is removed.")


@app.command("kinds")
def kinds(json: Json = False) -> None:
    """The kinds of services, each with the variable that its key is expected in."""
    from lockstep.models.remote.kinds import KINDS

    if json:
        as_json(
            [
                {"kind": name, "title": k.title, "base_url": k.base_url, "key_env": k.key_env}
                for name, k in KINDS.items()
            ]
        )
        return
    rows = [
        [
            name,
            k.title,
            k.base_url or "-",
            f"{k.key_env}{' (set)' if os.environ.get(k.key_env) else ''}" if k.key_env else "-",
        ]
        for name, k in KINDS.items()
    ]
    table(["kind", "service", "address", "key"], rows)


def settings_of(pairs: list[str]) -> dict[str, Any]:
    """`--set name=value` as settings.

    Raises:
        ConfigError: a pair has no `=`.
    """
    from lockstep.errors import ConfigError

    for pair in pairs:
        if "=" not in pair:
            # Not repeated: what has no name may be a key.
            raise ConfigError("--set takes a name and a value.", "Write --set NAME=VALUE.")
    return dict(pair.split("=", 1) for pair in pairs)


def given(connection: Connection) -> dict[str, Any]:
    """A connection for a program, without what was not set."""
    return {name: value for name, value in asdict(connection).items() if value not in (None, {})}


def key_of(connection: Connection) -> str:
    """Where the key lies, for a person."""
    return connection.key_reference or "-"
