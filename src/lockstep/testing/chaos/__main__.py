"""The fake provider as a program: `python -m lockstep.testing.chaos --dimensions 64`; prints its address first."""

from __future__ import annotations

import argparse
import signal
import sys
import threading

from lockstep.errors import ConfigError
from lockstep.testing.chaos.server import ChaosServer


def main(arguments: list[str] | None = None) -> int:
    """Serve until SIGINT or SIGTERM."""
    options = _parser().parse_args(arguments)
    stop = threading.Event()
    for each in (signal.SIGINT, signal.SIGTERM):
        signal.signal(each, lambda *_: stop.set())
    try:
        server = ChaosServer(
            dimensions=options.dimensions,
            latency_s=options.latency_ms / 1000,
            requests_per_minute=options.requests_per_minute,
            tokens_per_minute=options.tokens_per_minute,
            burst_s=options.burst_s,
            key=options.key,
            limit_headers=not options.no_limit_headers,
            models=options.model,
            protocols=options.protocol,
            batch_latency_s=None if options.batch_latency_ms is None else options.batch_latency_ms / 1000,
            keep_texts=False,
            keep_bodies=False,
            tls=options.tls,
            port=options.port,
        )
    except ConfigError as error:
        sys.stderr.write(f"{error}\n")
        return 2
    with server:
        sys.stdout.write(f"{server.url}\n")
        sys.stdout.flush()
        stop.wait()
    return 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m lockstep.testing.chaos", description=__doc__)
    parser.add_argument("--port", type=int, default=0, help="0 for any that is free")
    parser.add_argument("--dimensions", type=int, default=384)
    parser.add_argument("--latency-ms", type=float, default=0.0)
    parser.add_argument("--requests-per-minute", type=float)
    parser.add_argument("--tokens-per-minute", type=float)
    parser.add_argument("--burst-s", type=float, default=1.0, help="how many seconds' worth may come at once")
    parser.add_argument("--batch-latency-ms", type=float, help="else a command to /chaos finishes batches")
    parser.add_argument("--key", help="what clients must show")
    parser.add_argument("--model", action="append", help="a model that exists, may be repeated; all do by default")
    parser.add_argument("--protocol", action="append", help="one that is spoken, may be repeated; all are by default")
    parser.add_argument("--no-limit-headers", action="store_true")
    parser.add_argument("--tls", nargs=2, metavar=("CERTIFICATE", "KEY"))
    return parser


if __name__ == "__main__":
    sys.exit(main())
