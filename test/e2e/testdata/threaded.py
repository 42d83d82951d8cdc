# Copyright The otelcol-tapio Authors
# SPDX-License-Identifier: Apache-2.0

"""threaded.py [ADDRESS:]PORT BACKEND HOST JOB serves each connection in a thread of its own, which asks the back end
(a port) before it answers, and says 502 if that cannot be reached or fails. HOST is what the back end is called,
with {} for what the request is about. If JOB is "job", another thread asks on its own account."""
import http.client
import http.server
import os
import random
import socketserver
import sys
import threading
import time

ADDRESS, _, PORT = sys.argv[1].rpartition(":")
BACKEND, HOST, JOB = int(sys.argv[2]), sys.argv[3], sys.argv[4]


def ask(path, truth):
    connection = http.client.HTTPConnection(HOST.format(truth), BACKEND)
    connection.request("GET", path, headers={"X-Truth": truth})
    answer = connection.getresponse()
    body = answer.read()
    connection.close()
    return answer.status, body


def work():
    n = 0
    while True:
        time.sleep(random.uniform(0.05, 0.1))
        ask("/job", f"job-{os.getpid()}-{n}")
        n += 1


class Handler(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    wbufsize = -1  # the answer is one segment

    def do_GET(self):
        time.sleep(random.uniform(0, 0.004))
        try:
            status, body = ask(self.path, self.headers["X-Truth"])
        except ConnectionRefusedError:
            status, body = 502, b""
        self.send_response(200 if status == 200 else 502)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_):
        pass


class Server(http.server.ThreadingHTTPServer):
    request_queue_size = 128

    def server_bind(self):
        socketserver.TCPServer.server_bind(self)  # HTTPServer looks its own name up


if JOB == "job":
    threading.Thread(target=work, daemon=True).start()
Server((ADDRESS or "127.0.0.1", int(PORT)), Handler).serve_forever()
