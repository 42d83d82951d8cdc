# Copyright The otelcol-tapio Authors
# SPDX-License-Identifier: Apache-2.0

"""server.py ADDRESS PORT LOG accepts in one process, and serves each connection in another. It logs a
line a call."""
import http.server
import json
import os
import socket
import socketserver
import sys


class Handler(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def answer(self):
        received = len(self.rfile.read(int(self.headers.get("Content-Length", 0))))
        body = b"p" * int(self.path.rpartition("/")[2])
        if self.command == "HEAD":
            body = b""
        self.send_response(200)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)
        self.log(received, len(body))

    do_GET = do_HEAD = do_POST = do_PUT = do_DELETE = answer

    def log(self, received, sent):
        line = json.dumps({
            "PID": os.getpid(), "ClientPort": self.client_address[1], "Method": self.command, "Target": self.path,
            "Version": self.request_version, "Status": 200, "RequestBody": received, "ResponseBody": sent,
            "Agent": self.headers["User-Agent"],
        })
        with open(sys.argv[3], "a") as log:
            log.write(line + "\n")

    def log_message(self, *_):
        pass


class Server(socketserver.ForkingMixIn, http.server.HTTPServer):
    address_family = socket.AF_INET6
    max_children = 100

    def server_bind(self):
        socketserver.TCPServer.server_bind(self)  # HTTPServer looks its own name up


Server((sys.argv[1], int(sys.argv[2])), Handler).serve_forever()
