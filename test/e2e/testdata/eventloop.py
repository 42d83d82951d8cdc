# Copyright The otelcol-tapio Authors
# SPDX-License-Identifier: Apache-2.0

"""eventloop.py PORT BACKEND JOB serves all connections in one thread, and asks the back end (a port) before it
answers. If JOB is "job", it also asks on its own account; if it is "late", from its fifth request on."""
import asyncio
import os
import random
import sys

PORT, BACKEND, JOB = int(sys.argv[1]), int(sys.argv[2]), sys.argv[3]


async def ask(path, truth):
    reader, writer = await asyncio.open_connection("127.0.0.1", BACKEND)
    writer.write(f"GET {path} HTTP/1.1\r\nHost: backend\r\nConnection: close\r\nX-Truth: {truth}\r\n\r\n".encode())
    answer = await reader.read()
    writer.close()
    return answer.partition(b"\r\n\r\n")[2]


async def work():
    n = 0
    while True:
        await asyncio.sleep(random.uniform(0.05, 0.1))
        await ask("/job", f"job-{os.getpid()}-{n}")
        n += 1


served = 0
working = None


async def serve(reader, writer):
    global served, working
    while True:
        try:
            head = await reader.readuntil(b"\r\n\r\n")
        except asyncio.IncompleteReadError:
            break
        served += 1
        if JOB == "late" and served == 5:
            working = asyncio.create_task(work())
        first, *fields = head.decode().strip().split("\r\n")
        headers = {name.lower(): value for name, _, value in (field.partition(": ") for field in fields)}
        await asyncio.sleep(random.uniform(0, 0.004))
        body = await ask(first.split()[1], headers["x-truth"])
        writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n%s" % (len(body), body))
        await writer.drain()
    writer.close()


async def main():
    global working
    server = await asyncio.start_server(serve, "127.0.0.1", PORT, backlog=128)
    if JOB == "job":
        working = asyncio.create_task(work())
    async with server:
        await server.serve_forever()


asyncio.run(main())
