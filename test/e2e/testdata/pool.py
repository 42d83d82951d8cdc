# Copyright The otelcol-tapio Authors
# SPDX-License-Identifier: Apache-2.0

"""pool.py PORT BACKEND JOB has a pool of threads, which serve connections of one request each, and ask the back
end (a port) before they answer. If JOB is "job", the same threads also ask on the server's own account."""
import concurrent.futures
import http.client
import os
import random
import socket
import sys
import threading
import time

PORT, BACKEND, JOB = int(sys.argv[1]), int(sys.argv[2]), sys.argv[3]
pool = concurrent.futures.ThreadPoolExecutor(16)


def ask(path, truth):
    connection = http.client.HTTPConnection("127.0.0.1", BACKEND)
    connection.request("GET", path, headers={"X-Truth": truth})
    answer = connection.getresponse().read()
    connection.close()
    return answer


def work():
    n = 0
    while True:
        time.sleep(random.uniform(0.05, 0.1))
        pool.submit(ask, "/job", f"job-{os.getpid()}-{n}")
        n += 1


def serve(connection):
    with connection:
        head = b""
        while not head.endswith(b"\r\n\r\n"):
            received = connection.recv(65536)
            if not received:
                return
            head += received
        first, *fields = head.decode().strip().split("\r\n")
        headers = {name.lower(): value for name, _, value in (field.partition(": ") for field in fields)}
        time.sleep(random.uniform(0, 0.004))
        body = ask(first.split()[1], headers["x-truth"])
        connection.sendall(b"HTTP/1.1 200 OK\r\nConnection: close\r\nContent-Length: %d\r\n\r\n%s" % (len(body), body))


if JOB == "job":
    threading.Thread(target=work, daemon=True).start()
with socket.create_server(("127.0.0.1", PORT), backlog=128) as listener:
    while True:
        pool.submit(serve, listener.accept()[0])
