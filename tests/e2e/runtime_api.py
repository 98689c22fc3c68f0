"""Passes Lambda's runtime API on to cargo-lambda's emulator, one request on each connection.

The emulator answers the POST of a result before it has read it, and reads its end only as the connection closes or has
the next request (hyper's server keeps the sender of a body that ends after its answer). A function that is answered
while it still sends megabytes asks for its next invocation on another connection: what it has sent is never handed on.
"""

import asyncio
import threading


def serve(there):
    """Serves on a port of its own, which it returns, in a thread that ends with the program."""
    started = threading.Event()
    ports = []

    async def run():
        server = await asyncio.start_server(lambda *here: passed_on(*here, there), "127.0.0.1", 0)
        ports.append(server.sockets[0].getsockname()[1])
        started.set()
        await server.serve_forever()

    threading.Thread(target=asyncio.run, args=(run(),), daemon=True).start()
    started.wait()
    return ports[0]


async def passed_on(reader, writer, there):
    writers = [writer]
    try:
        request, headers = (await reader.readuntil(b"\r\n\r\n")).split(b"\r\n", 1)
        answer, onward = await asyncio.open_connection("127.0.0.1", there)
        writers.append(onward)
        onward.write(request + b"\r\nconnection: close\r\n" + headers)
        ways = [asyncio.ensure_future(copied(*way)) for way in ((reader, onward), (answer, writer))]
        # The emulator closes at the end of both bodies, the function only where it dies.
        _, left = await asyncio.wait(ways, return_when=asyncio.FIRST_COMPLETED)
        for way in left:
            way.cancel()
    except (OSError, asyncio.IncompleteReadError):
        pass  # Neither end has anything to be told: it sees the other's end.
    finally:
        for it in writers:
            it.close()


async def copied(reader, writer):
    while data := await reader.read(1 << 18):
        writer.write(data)
        await writer.drain()
