"""A fake embedding provider that fails on command: a real HTTP server, for tests of whatever calls one.

In a test, in a thread of its own:

    with ChaosServer(dimensions=64, requests_per_minute=3000) as server:
        server.fault("status", times=2, status=503, retry_after_s=0.1)
        ...  # a client of server.url
        assert server.texts_paid_twice == 0

For clients in other processes, `python -m lockstep.testing.chaos --dimensions 64` prints its address. `GET /chaos` then
gives what it has counted, and `POST /chaos` sets its faults and limits.

Nothing is drawn by chance: the same requests in the same order meet the same faults.
"""
