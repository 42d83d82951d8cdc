// Copyright The otelcol-tapio Authors
// SPDX-License-Identifier: Apache-2.0

// node relay.js PORT BACKEND JOB asks the back end (a port) before it answers, and, if JOB is "job", also on its
// own account.
const http = require('http');
const [port, backend, job] = process.argv.slice(2);
const agent = new http.Agent({ keepAlive: true });

function ask(path, truth, done) {
  http.get({ agent, host: '127.0.0.1', port: backend, path, headers: { 'X-Truth': truth } }, (answer) => {
    let body = '';
    answer.on('data', (data) => { body += data; });
    answer.on('end', () => done(body));
  }).on('error', () => done(''));
}

function work(n) {
  setTimeout(() => ask('/job', `job-${process.pid}-${n}`, () => work(n + 1)), 50 + 50 * Math.random());
}

http.createServer((request, response) => {
  setTimeout(() => ask(request.url, request.headers['x-truth'], (body) => {
    response.setHeader('Content-Length', body.length);
    response.end(body);
  }), 4 * Math.random());
}).listen(Number(port), '127.0.0.1', 511);

if (job === 'job') work(0);
