# Copyright The otelcol-tapio Authors
# SPDX-License-Identifier: Apache-2.0

"""browser.py asks for each URL that it is given, a line each, and prints the status."""
import sys
import urllib.request

for line in sys.stdin:
    with urllib.request.urlopen(line.strip()) as response:
        response.read()
        print(response.status, flush=True)
