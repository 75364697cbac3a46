"""`/chaos`: the server is asked what it has counted and told what to do, from other processes."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from lockstep.errors import ConfigError, UnknownName
from lockstep.testing.chaos.http import Reply, Request, json_reply
from lockstep.testing.chaos.limits import Limits

if TYPE_CHECKING:
    from lockstep.testing.chaos.service import Service

PATH = "/chaos"
COMMANDS = ("fault", "limits", "clear", "reset_counters", "finish_batches")


def control(service: Service, request: Request) -> Reply:
    """Answer with the counters, after doing what a POST asks for: a JSON object of commands, done in the order given.

    {"fault": {"name": "status", "times": 2}, "limits": {"requests_per_minute": 60}, "clear": true,
    "reset_counters": true, "finish_batches": "completed"}
    """
    if request.method not in ("GET", "POST"):
        return json_reply({"error": "GET or POST."}, 405)
    try:
        with service.lock:
            if request.method == "POST":
                _obey(service, _commands(request))
            return json_reply(service.counters.as_json())
    except (ConfigError, TypeError) as error:
        return json_reply({"error": str(error)}, 400)


def _commands(request: Request) -> dict[str, Any]:
    try:
        commands = request.json()
    except ValueError as error:
        raise ConfigError("The body is no JSON.") from error
    if not isinstance(commands, dict):
        raise ConfigError("The body is no JSON object.")
    for name in commands:
        if name not in COMMANDS:
            raise UnknownName("command", name, COMMANDS)
    return commands


def _obey(service: Service, commands: dict[str, Any]) -> None:
    for name, value in commands.items():
        if name == "fault":
            service.fault(**value)
        elif name == "limits":
            service.limits = Limits(**value)
        elif name == "finish_batches":
            service.batches.finish(service, value)
        elif name == "clear" and value:
            service.clear()
        elif name == "reset_counters" and value:
            service.counters = service.counters.fresh()
