# Copyright The otelcol-tapio Authors
# SPDX-License-Identifier: Apache-2.0

"""storefront.py ADDRESS PORT is the shop's front end: a thread for each connection, which asks the back
ends by name."""
import http.server
import socketserver
import sys
import urllib.error
import urllib.request

CATALOG = "http://catalog.shop.test:8081"
ORDERS = "http://orders.shop.test:8082"
GIFTS = "http://gifts.shop.test:8083"  # has an address, and nobody listens
REVIEWS = "http://reviews.shop.test:8084"  # has none


def ask(url, body=None):
    with urllib.request.urlopen(urllib.request.Request(url, data=body)) as response:
        return response.read()


def answer(path):
    what, _, number = path.strip("/").partition("/")
    if what == "orders":
        return ask(f"{ORDERS}/orders/{number}", ask(f"{CATALOG}/items/{number}.json"))
    if what == "gifts":
        return ask(f"{GIFTS}/gifts/{number}")
    return ask(f"{REVIEWS}/reviews/{number}")


class Storefront(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def do_GET(self):
        status, body = 200, b""
        try:
            body = answer(self.path)
        except urllib.error.HTTPError:  # a back end has failed
            status = 502
        except urllib.error.URLError:  # it cannot be reached
            status = 503
        self.send_response(status)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_):
        pass


class Server(http.server.ThreadingHTTPServer):
    def server_bind(self):
        socketserver.TCPServer.server_bind(self)  # HTTPServer looks its own name up


Server((sys.argv[1], int(sys.argv[2])), Storefront).serve_forever()
