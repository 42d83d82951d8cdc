# Copyright The otelcol-tapio Authors
# SPDX-License-Identifier: Apache-2.0

"""client.py PORT asks on one connection, and prints a line a call."""
import http.client
import json
import os
import sys

connection = http.client.HTTPConnection("127.0.0.1", int(sys.argv[1]))
for method, target, body in [
    ("GET", "/size/10", None),
    ("HEAD", "/size/10", None),
    ("POST", "/size/20", b"x" * 100000),
    ("PUT", "/size/20", [b"x" * 1000] * 100),  # in chunks
    ("GET", "/chunked/50000", None),
    ("DELETE", "/status/404", None),
]:
    connection.request(method, target, body, {"User-Agent": "Python"}, encode_chunked=isinstance(body, list))
    response = connection.getresponse()
    received = len(response.read())
    print(json.dumps({
        "PID": os.getpid(), "Method": method, "Target": target, "Version": "HTTP/1.1", "Status": response.status,
        "RequestBody": sum(map(len, body)) if isinstance(body, list) else len(body or b""), "ResponseBody": received,
        "Agent": "Python",
    }))
