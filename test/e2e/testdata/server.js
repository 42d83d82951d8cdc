// Copyright The otelcol-tapio Authors
// SPDX-License-Identifier: Apache-2.0

// node server.js PORT LOG serves what the path says, /size/N, /chunked/N or /status/N, and logs a line
// a call.
const fs = require('fs'), http = require('http');
const [port, log] = process.argv.slice(2);

function answer(request, response) {
  const [, what, argument] = request.url.split('/');
  const n = Number(argument);
  if (what === 'status') {
    response.statusCode = n;
    response.end();
    return 0;
  }
  if (what === 'size') response.setHeader('Content-Length', n);
  for (let left = n; left > 0; left -= 70000) {
    response.write(Buffer.alloc(Math.min(left, 70000), 'n')); // a chunk, if it has no length
  }
  response.end();
  return request.method === 'HEAD' ? 0 : n;
}

http.createServer((request, response) => {
  let received = 0;
  request.on('data', (data) => { received += data.length; });
  request.on('end', () => {
    const sent = answer(request, response);
    fs.appendFileSync(log, JSON.stringify({
      PID: process.pid, ClientPort: request.socket.remotePort, Method: request.method, Target: request.url,
      Version: 'HTTP/' + request.httpVersion, Status: response.statusCode, RequestBody: received,
      ResponseBody: sent, Agent: request.headers['user-agent'],
    }) + '\n');
  });
}).listen(Number(port), '127.0.0.1');
