"""One client's connection: requests are read, and answered as the service decides, down to resets in mid-body."""

from __future__ import annotations

import asyncio
import contextlib
import socket
import struct

from lockstep.testing.chaos.control import PATH, control
from lockstep.testing.chaos.counters import Received
from lockstep.testing.chaos.http import BadRequest, Reply, Request, read_request
from lockstep.testing.chaos.service import Action, Service

HUGE_BYTES = 2 << 30
DRIBBLE_S = 0.2


async def converse(service: Service, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    """Answer requests until the client goes, or an answer ends the connection."""
    service.counters.connections += 1
    try:
        while await _exchange(service, reader, writer):
            pass
    except BadRequest as error:
        reply = Reply(status=400, body=str(error).encode(), content_type="text/plain", headers={"Connection": "close"})
        writer.write(reply.head() + reply.body)
    except (ConnectionError, TimeoutError):
        pass  # the client went, as it may
    finally:
        writer.close()
        with contextlib.suppress(OSError):
            await writer.wait_closed()


async def _exchange(service: Service, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> bool:
    """One request and its answer; False when there will be no other."""
    request = await read_request(reader, writer)
    if request is None:
        return False
    if request.path == PATH:
        await _send(control(service, request), writer)
        return _stays(request)
    with service.lock:
        received = service.counters.received(request)
        service.counters.in_flight += 1
        service.counters.in_flight_max = max(service.counters.in_flight_max, service.counters.in_flight)
    try:
        action = service.act(request)
        if action.latency_s:
            await asyncio.sleep(action.latency_s)
        return await _answer(service, action, received, reader, writer) and _stays(request)
    finally:
        with service.lock:
            service.counters.in_flight -= 1


def _stays(request: Request) -> bool:
    return request.headers.get("connection", "").lower() != "close"


async def _answer(
    service: Service,
    action: Action,
    received: Received,
    reader: asyncio.StreamReader,
    writer: asyncio.StreamWriter,
) -> bool:
    """Send, or do not send, what was decided; whether the connection can be used on."""
    reply = action.reply
    if action.wire == "timeout":
        while await reader.read(1 << 16):
            pass  # until the client goes
        return False
    if action.wire == "reset":
        _reset(writer)
        return False
    # Counted before it is sent: a client that has its answer finds it counted.
    with service.lock:
        received.status = reply.status
        service.counters.answered[reply.status] += 1
    if action.wire == "whole":
        await _send(reply, writer)
        return True
    if action.wire == "reset_midway":
        writer.write(reply.head() + reply.body[: len(reply.body) // 2])
        await _until_sent(writer)
        _reset(writer)
    elif action.wire == "huge":
        await _flood(writer)
    else:
        await _dribble(writer)
    return False


async def _send(reply: Reply, writer: asyncio.StreamWriter) -> None:
    writer.write(reply.head() + reply.body)
    await writer.drain()


async def _flood(writer: asyncio.StreamWriter) -> None:
    """2 GB of blanks within a JSON object."""
    start, blanks = b'{"object":"list",', b" " * (1 << 16)
    writer.write(Reply().head(HUGE_BYTES) + start)
    for _ in range((HUGE_BYTES - len(start)) // len(blanks)):
        writer.write(blanks)
        await writer.drain()


async def _dribble(writer: asyncio.StreamWriter) -> None:
    writer.write(Reply().head(HUGE_BYTES) + b"{")
    while not writer.is_closing():
        await asyncio.sleep(DRIBBLE_S)
        writer.write(b" ")
        await writer.drain()


async def _until_sent(writer: asyncio.StreamWriter) -> None:
    """Wait for the buffer to be empty: a reset would throw away what is left in it."""
    writer.transport.set_write_buffer_limits(0)
    await writer.drain()


def _reset(writer: asyncio.StreamWriter) -> None:
    """End the connection with RST, not with FIN: no lingering, nothing more sent."""
    handle = writer.get_extra_info("socket")
    if handle is not None:
        handle.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    writer.transport.abort()
