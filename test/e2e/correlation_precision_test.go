// Copyright The otelcol-tapio Authors
// SPDX-License-Identifier: Apache-2.0

//go:build linux

package e2e

import (
	"fmt"
	"os/exec"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"go.opentelemetry.io/collector/pdata/pcommon"
	"go.opentelemetry.io/collector/pdata/ptrace"

	"github.com/tapio-io/otelcol-tapio/internal/porttest"
)

// relayed is a server that asks another one before it answers.
type relayed struct {
	kind    string
	job     bool // it also asks on its own account
	pid     int64
	address string
	perCall bool // each connection is for one request
}

const (
	threaded  = "threads"
	pooled    = "thread pool"
	eventLoop = "asyncio"
	lateLoop  = "asyncio, whose job begins under load"
	node      = "Node.js"
	goroutine = "Go"
)

// kindsOfRelay with and without a background job: one makes no difference to threads.
var kindsOfRelay = map[bool][]string{
	true:  {threaded, pooled, eventLoop, node, goroutine},
	false: {eventLoop, node, goroutine},
}

// startRelay of a kind, each with the same back end.
func (g cgroup) startRelay(t *testing.T, kind, backend string, job bool) relayed {
	t.Helper()
	word := map[bool]string{true: "job", false: "quiet"}[job]
	r := relayed{kind: kind, job: job, perCall: kind == pooled}
	if kind == goroutine {
		p := g.start(t, "relay", backend, word)
		r.address, r.pid = p.line(), p.pid()
		return r
	}
	port := porttest.Free(t)
	own, backendPort := strconv.Itoa(port), backend[strings.LastIndex(backend, ":")+1:]
	var command *exec.Cmd
	switch kind {
	case threaded:
		command = g.command(t, "python3", testdata(t, "threaded.py"), own, backendPort, "127.0.0.1", word)
	case pooled:
		command = g.command(t, "python3", testdata(t, "pool.py"), own, backendPort, word)
	case eventLoop:
		command = g.command(t, "python3", testdata(t, "eventloop.py"), own, backendPort, word)
	case lateLoop:
		command = g.command(t, "python3", testdata(t, "eventloop.py"), own, backendPort, "late")
	case node:
		command = g.command(t, "node", testdata(t, "relay.js"), own, backendPort, word)
	}
	s := startServer(t, newServer(command, "", port))
	r.address, r.pid = s.address, s.pid()
	return r
}

// level is how many connections ask at once, how much, and how long each waits before it asks again.
type level struct {
	connections, requests int64
	pause                 time.Duration
}

var levels = []level{{1, 100, 0}, {8, 25, 0}, {64, 6, 0}}

// nowAndThen is how often services are asked for whose requests can be told to be the only ones.
var nowAndThen = level{1, 20, 300 * time.Millisecond}

// levelsOf a relay. What tells the requests of those with a job apart needs no pause.
func levelsOf(job bool) []level {
	if job {
		return levels
	}
	return append([]level{nowAndThen}, levels...)
}

func (l level) total() int { return int(l.connections * l.requests) }

func (r relayed) prefix(l level) string {
	return fmt.Sprintf("%s%t%dx%d", strings.ReplaceAll(r.kind, " ", ""), r.job, l.connections, l.requests)
}

func (r relayed) round(l level) round {
	depth := int64(1)
	if r.perCall {
		depth = 0
	}
	return round{Network: "tcp4", Address: r.address, Connections: l.connections, Requests: l.requests, Truth: r.prefix(l), Depth: depth, Pause: l.pause}
}

// idleTime is more than the time for which a server must be seen to send nothing while it serves nothing.
const idleTime = 11 * time.Second

// TestPrecision has servers of several kinds ask another one for each request that they serve, and compares
// the parents of these requests with a header that says what each is for. In most of the servers a
// background job sends requests, too. No parent may be wrong; the table says how many there are.
func TestPrecision(t *testing.T) {
	requireBPF(t)
	scope := newCgroup(t)
	asking := scope.start(t, "load") // older than the collector: each request begins a trace
	require.Equal(t, "ready", asking.line())
	c := startCollector(t, scope, showTruth)
	backend := scope.start(t, "answer", "tcp4", loopback("tcp4")).line()
	relays := map[bool][]relayed{}
	for _, job := range []bool{false, true} {
		for _, kind := range kindsOfRelay[job] {
			relays[job] = append(relays[job], scope.startRelay(t, kind, backend, job))
		}
	}
	late := scope.startRelay(t, lateLoop, backend, true)
	watched := append([]relayed{late}, relays[false]...)
	requests := askRelays(asking, watched, level{1, 1, 0}) // they are watched from here on
	idle := time.After(idleTime)
	requests += askRelays(asking, relays[true], levels...)
	<-idle
	requests += askRelays(asking, []relayed{late}, levels...) + askRelays(asking, relays[false], levelsOf(false)...)
	asking.end()
	c.stopWithLittleLoss(4 * requests) // and what the jobs did

	tree := newTruths(t, &c.output)
	tree.checkPairs(t)
	var table []score
	relays[true] = append(relays[true], late)
	for _, job := range []bool{true, false} {
		for _, r := range relays[job] {
			table = append(table, tree.scores(t, r)...)
		}
	}
	t.Logf("Precision and recall of parents within servers:\n%s", format(table))
	for _, s := range table {
		s.check(t)
	}
}

func askRelays(asking *process, relays []relayed, levels ...level) (requests int) {
	for _, r := range relays {
		for _, l := range levels {
			asking.do(r.round(l))
			requests += l.total()
		}
	}
	return requests
}

// truths are the spans of a test, and what each is about.
type truths struct {
	clients, servers map[int64]map[string]item // by process, then by truth
	byID             map[pcommon.SpanID]item
}

func newTruths(t *testing.T, o *output) *truths {
	t.Helper()
	tree := &truths{clients: map[int64]map[string]item{}, servers: map[int64]map[string]item{}, byID: bySpanID(o.spans)}
	for _, kind := range []ptrace.SpanKind{ptrace.SpanKindClient, ptrace.SpanKindServer} {
		of := map[ptrace.SpanKind]map[int64]map[string]item{ptrace.SpanKindClient: tree.clients, ptrace.SpanKindServer: tree.servers}[kind]
		for pid, spans := range byPID(o.exchanges(kind)) {
			of[pid] = byTruth(t, spans, "")
		}
	}
	return tree
}

// checkPairs wants each server's span to be the child of a client's that is about the same. All clients are
// in scope.
func (tree *truths) checkPairs(t *testing.T) {
	t.Helper()
	for _, servers := range tree.servers {
		checkEach(t, servers, "child of the client's span for the same request", func(truth string, server item) bool {
			client, ok := tree.byID[server.parentID]
			if !ok {
				return server.parentID.IsEmpty() && !tree.hasClient(truth) // it was lost
			}
			return client.kind == ptrace.SpanKindClient && client.traceID == server.traceID &&
				truthOf(client) == truth && client.pid() != server.pid()
		})
	}
}

// hasClient says whether the request's own client was told: of the load, or of a background job.
func (tree *truths) hasClient(truth string) bool {
	for _, clients := range tree.clients {
		if _, ok := clients[truth]; ok {
			return true
		}
	}
	return false
}

// score of a server at a level.
type score struct {
	relayed
	level
	seen, right, wrong int // requests that it sent for others
	jobs, wrongJobs    int
	examples           []string
}

func (tree *truths) scores(t *testing.T, r relayed) (scores []score) {
	t.Helper()
	for _, l := range levelsOf(r.job) {
		scores = append(scores, tree.score(r, l))
	}
	jobs, wrong := tree.scoreJobs(r)
	scores[0].jobs, scores[0].wrongJobs = jobs, wrong
	assert.Equal(t, r.job, jobs > 10, "%s: %d requests of the background job", r.kind, jobs)
	return scores
}

func (tree *truths) score(r relayed, l level) score {
	s := score{relayed: r, level: l}
	for truth, client := range tree.clients[r.pid] {
		if !strings.HasPrefix(truth, r.prefix(l)+"-") {
			continue
		}
		s.seen++
		switch server := tree.servers[r.pid][truth]; {
		case client.parentID.IsEmpty():
		case client.parentID == server.spanID && client.traceID == server.traceID:
			s.right++
		default:
			s.wrong++
			s.examples = append(s.examples, fmt.Sprintf("%s has the parent %s", truth, tree.describe(client.parentID)))
		}
	}
	return s
}

// scoreJobs counts what the background job asked, and how much of that is said to be for a request.
func (tree *truths) scoreJobs(r relayed) (jobs, wrong int) {
	for truth, client := range tree.clients[r.pid] {
		if !strings.HasPrefix(truth, "job-") {
			continue
		}
		jobs++
		if !client.parentID.IsEmpty() {
			wrong++
		}
	}
	return jobs, wrong
}

func (tree *truths) describe(id pcommon.SpanID) string {
	parent, ok := tree.byID[id]
	if !ok {
		return "unknown " + id.String()
	}
	return fmt.Sprintf("%s %s %s of %d", parent.kind, parent.name, truthOf(parent), parent.pid())
}

// least recall: each request's parent can be known where the thread that serves it is no other's. The rule
// for the others is about processes that never do anything unasked, and answer quickly after a pause, which
// a machine that has much else to do makes slow.
func (s score) least() float64 {
	switch {
	case s.kind == threaded || s.kind == pooled:
		return 0.99
	case !s.job && s.pause > 0:
		return 0.8
	default:
		return 0
	}
}

// allowed are wrong parents of a job's requests. One that begins late may be mistaken for a request's doing
// once, or once more if both were held up together.
func (s score) allowed() int {
	if s.kind == lateLoop {
		return 2
	}
	return 0
}

func (s score) check(t *testing.T) {
	t.Helper()
	what := fmt.Sprintf("%s, %d at once, job %t", s.kind, s.connections, s.job)
	assert.GreaterOrEqual(t, s.seen, s.total()*95/100, what)
	assert.Zero(t, s.wrong, "%s: wrong parents, such as %v", what, s.examples[:min(len(s.examples), 3)])
	assert.LessOrEqual(t, s.wrongJobs, s.allowed(), "%s: requests of the background job with a parent", what)
	assert.GreaterOrEqual(t, s.recall(), s.least(), what)
}

func (s score) recall() float64 { return float64(s.right) / float64(max(s.seen, 1)) }

// format is a table, as in docs/correlation.md.
func format(table []score) string {
	var text strings.Builder
	text.WriteString("| Server | Background job | At once | Pause | Requests | Right parent | Wrong parent | No parent | Recall |\n" +
		"| ------ | -------------- | ------: | ----: | -------: | -----------: | -----------: | --------: | -----: |\n")
	for _, s := range table {
		job := "none"
		if s.job {
			job = "yes"
		}
		fmt.Fprintf(&text, "| %s | %s | %d | %s | %d | %d | %d | %d | %.1f %% |\n", s.kind, job, s.connections, s.pause, s.seen,
			s.right, s.wrong, s.seen-s.right-s.wrong, 100*s.recall())
		if s.job && s.connections == 1 {
			fmt.Fprintf(&text, "| %s: the job itself | | | | %d | | %d | %d | |\n", s.kind, s.jobs, s.wrongJobs, s.jobs-s.wrongJobs)
		}
	}
	return text.String()
}
