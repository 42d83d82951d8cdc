# Copyright The otelcol-tapio Authors
# SPDX-License-Identifier: Apache-2.0

"""tls.py slow PORT CERTIFICATE SECONDS is a server of TLS that thinks for so long about each ClientHello.
tls.py asks PORT CERTIFICATE HOST:PORT serves each connection in a thread of its own, which asks the other server over
TLS before it answers. CERTIFICATE is a file with a certificate, that signs itself, and its key."""
import http.client
import http.server
import socketserver
import ssl
import sys
import time

MODE, PORT, CERTIFICATE, REST = sys.argv[1], int(sys.argv[2]), sys.argv[3], sys.argv[4]


class Handler(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    wbufsize = -1  # the answer is one segment

    def do_GET(self):
        if MODE == "asks":
            host, _, port = REST.partition(":")
            context = ssl.create_default_context(cafile=CERTIFICATE)
            connection = http.client.HTTPSConnection(host, int(port), context=context)
            connection.request("GET", "/")
            connection.getresponse().read()
            connection.close()
        self.send_response(204)
        self.end_headers()

    def log_message(self, *_):
        pass


class Server(http.server.ThreadingHTTPServer):
    def server_bind(self):
        socketserver.TCPServer.server_bind(self)  # HTTPServer looks its own name up


server = Server(("127.0.0.1", PORT), Handler)
if MODE == "slow":
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(CERTIFICATE)
    context.sni_callback = lambda *_: time.sleep(float(REST))
    server.socket = context.wrap_socket(server.socket, server_side=True)
server.serve_forever()
