// Copyright The otelcol-tapio Authors
// SPDX-License-Identifier: Apache-2.0

//go:build linux

package e2e

import (
	"errors"
	"fmt"
	"math/rand/v2"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"syscall"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"go.opentelemetry.io/collector/pdata/plog"
	"go.opentelemetry.io/collector/pdata/ptrace"

	"github.com/tapio-io/otelcol-tapio/internal/porttest"
)

// nameServer is a dnsmasq. Its log is what the spans are compared with.
type nameServer struct {
	address string // host:port
	log     *syncBuffer
}

// startNameServer has these answers: any name below found.test has the addresses 192.0.2.7 and
// 2001:db8::7, big.test a text that UDP is too small for, and no other one below test exists.
func startNameServer(t *testing.T, host string, port int) *nameServer {
	t.Helper()
	return cgroup{}.startNameServer(t, host, port)
}

func (g cgroup) startNameServer(t *testing.T, host string, port int) *nameServer {
	t.Helper()
	path, err := exec.LookPath("dnsmasq")
	if err != nil {
		if os.Getenv("TAPIO_REQUIRE_BPF") == "1" {
			require.NoError(t, err, "TAPIO_REQUIRE_BPF=1")
		}
		t.Skip("install dnsmasq-base: ", err)
	}
	text := strings.Repeat("x", 250)
	s := &nameServer{address: fmt.Sprintf("%s:%d", host, port), log: &syncBuffer{}}
	command := exec.Command(path, "--keep-in-foreground", "--conf-file=/dev/null", "--pid-file", "--user=root",
		"--listen-address="+host, fmt.Sprintf("--port=%d", port), "--bind-interfaces", "--no-resolv", "--no-hosts",
		"--log-queries", "--log-facility=-", "--local=/test/", "--address=/found.test/192.0.2.7", "--address=/found.test/2001:db8::7",
		"--txt-record=text.test,hello", fmt.Sprintf("--txt-record=big.test,%s,%s,%s", text, text, text))
	command.Stderr = s.log
	command.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	g.place(command)
	require.NoError(t, command.Start())
	t.Cleanup(func() {
		_ = command.Process.Kill()
		_ = command.Wait()
		if t.Failed() {
			t.Logf("dnsmasq's log:\n%s", s.log)
		}
	})
	require.Eventually(t, func() bool {
		conn, err := net.Dial("tcp", s.address)
		return err == nil && conn.Close() == nil
	}, patience, pollInterval, "dnsmasq does not listen: %s", s.log)
	return s
}

var loggedQuery = regexp.MustCompile(`(?m) query\[([^]]+)\] (\S+) from `)

// asked are the questions that the server was asked, sorted, as "TYPE name".
func (s *nameServer) asked() (questions []string) {
	for _, match := range loggedQuery.FindAllStringSubmatch(s.log.String(), -1) {
		questions = append(questions, match[1]+" "+match[2])
	}
	slices.Sort(questions)
	return questions
}

// waitAsked is asked, when count questions are in the log: the answer may be here before the log is.
func (s *nameServer) waitAsked(t *testing.T, count int) []string {
	t.Helper()
	require.Eventually(t, func() bool { return len(s.asked()) >= count }, patience, pollInterval, "%d questions", count)
	return s.asked()
}

func questionsOf(spans []item) (questions []string) {
	for _, span := range spans {
		questions = append(questions, span.text("tapio.dns.question.type")+" "+span.text("dns.question.name"))
	}
	slices.Sort(questions)
	return questions
}

func answersOf(i item) []any {
	answers, _ := i.attributes["dns.answers"].([]any)
	return answers
}

// stopDNS ends the collector. Nothing was lost, and every record of the family is in a span, but for
// segments that TCP sent again.
func stopDNS(c *collector) row {
	c.t.Helper()
	rows := c.stop()
	rows.requireNothingLost(c.t)
	assert.Equal(c.t, rows["dns"].Seen, rows["dns"].Exported+rows["dns"].Aggregated)
	return rows["dns"]
}

// TestQueries compares the spans of many lookups with what the server was asked.
func TestQueries(t *testing.T) {
	requireBPF(t)
	scope := newCgroup(t)
	port := porttest.Free(t)
	server := startNameServer(t, "127.0.0.1", port)
	c := startCollector(t, scope, fmt.Sprintf("receivers::tapioebpf::families::dns::ports: [%d]", port))
	const names = 60
	pids := map[string]int64{}
	var asking []*process
	for _, network := range []string{"udp", "tcp"} {
		p := scope.start(t, "ask", network, server.address, names)
		pids[network] = p.pid()
		asking = append(asking, p)
	}
	for _, p := range asking {
		p.wait()
	}
	want := server.waitAsked(t, 2*(4*names+1))
	c.await("a span for each question", func(o *output) bool { return len(named(o.spans, "dns.query")) >= len(want) })
	counts := stopDNS(c)

	spans := named(c.output.spans, "dns.query")
	assert.Equal(t, want, questionsOf(spans))
	assert.Empty(t, named(c.output.spans, "dns.lookup"), "no name is another one's with a suffix")
	failures := map[any]item{}
	for _, record := range named(c.output.logs, "tapio.dns.failure") {
		failures[record.spanID] = record
	}
	failed := 0
	for _, span := range spans {
		checkQuery(t, span, server.address, pids)
		if span.status == ptrace.StatusCodeError {
			failed++
			record := failures[span.spanID]
			assert.Equal(t, span.attributes, record.attributes)
			assert.Equal(t, span.traceID, record.traceID)
			assert.Equal(t, plog.SeverityNumberWarn, record.severity)
		}
	}
	assert.Equal(t, 2*names, failed)
	assert.Len(t, failures, failed)
	udp := filter(spans, func(i item) bool { return i.text("network.transport") == "udp" })
	assert.Len(t, udp, 4*names+1)
	assert.Less(t, uint64(2*len(udp)), counts.Exported, "each message over UDP, and at least a segment")
	durations := c.output.points("dns.lookup.duration")
	assert.Equal(t, int64(len(want)), total(durations))
	assert.Equal(t, int64(2*names), total(durations, "error.type", "NXDOMAIN"))
	assert.Empty(t, c.output.points("tapio.dns.unmatched_answers"))
	for _, metrics := range c.output.metrics {
		checkShape(t, metrics)
	}
}

func checkQuery(t *testing.T, span item, server string, pids map[string]int64) {
	t.Helper()
	network, name := span.text("network.transport"), span.text("dns.question.name")
	who := network
	if name == "big.test" { // first over UDP, then by the same process over TCP
		who = "udp"
	}
	assert.Equal(t, ptrace.SpanKindClient, span.kind)
	assert.Equal(t, pids[who], span.pid())
	assert.Equal(t, self(t), span.resource["process.executable.path"])
	assert.Equal(t, server, address(span, "server"))
	assert.Equal(t, server, address(span, "network.peer"))
	assert.Equal(t, "ipv4", span.text("network.type"))
	assert.Less(t, span.time, span.end)
	assert.Less(t, span.end.AsTime().Sub(span.time.AsTime()), patience)
	assert.False(t, span.has("tapio.dns.retries"))
	code, answers := "NOERROR", []any(nil)
	switch {
	case strings.HasPrefix(name, "missing"):
		code = "NXDOMAIN"
	case span.text("tapio.dns.question.type") == "A":
		answers = []any{"192.0.2.7"}
	case span.text("tapio.dns.question.type") == "AAAA":
		answers = []any{"2001:db8::7"}
	}
	assert.Equal(t, answers, answersOf(span), name)
	assert.Equal(t, code, span.text("tapio.dns.response_code"), name)
	assert.Equal(t, code == "NXDOMAIN", span.text("error.type") == "NXDOMAIN")
	assert.Equal(t, code == "NXDOMAIN", span.status == ptrace.StatusCodeError)
	assert.Equal(t, name == "big.test" && network == "udp", span.attributes["tapio.dns.truncated"] == true)
}

// askInVainOf has a client ask a server that never answers, twice the same, and a collector that waits for so long.
func askInVainOf(t *testing.T, timeout string) (*collector, *process) {
	t.Helper()
	requireBPF(t)
	scope := newCgroup(t)
	silent, err := net.ListenPacket("udp4", "127.0.0.1:0")
	require.NoError(t, err)
	t.Cleanup(func() { silent.Close() })
	port := addrPort(silent.LocalAddr()).Port()
	c := startCollector(t, scope, fmt.Sprintf("receivers::tapioebpf::families::dns: {ports: [%d], timeout: %s}", port, timeout))
	client := scope.start(t, "askInVain", silent.LocalAddr())
	client.wait()
	return c, client
}

// TestQueryWithoutAnswer has a server that says nothing.
func TestQueryWithoutAnswer(t *testing.T) {
	c, client := askInVainOf(t, "3s")
	c.await("a span", func(o *output) bool { return len(named(o.spans, "dns.query")) > 0 })
	assert.Equal(t, row{Seen: 2, Exported: 2, Lost: map[string]uint64{}}, stopDNS(c))

	spans := named(c.output.spans, "dns.query")
	require.Len(t, spans, 1)
	span := spans[0]
	assert.Equal(t, client.pid(), span.pid())
	assert.Equal(t, "timeout", span.text("error.type"))
	assert.Equal(t, ptrace.StatusCodeError, span.status)
	assert.Greater(t, uint64(span.end-span.time), uint64(3e9), "it is waited for since it was sent again")
	assert.Less(t, uint64(span.end-span.time), uint64(6e9))
	assert.Equal(t, int64(1), span.number("tapio.dns.retries"))
	assert.False(t, span.has("tapio.dns.response_code"))
	assert.Len(t, named(c.output.logs, "tapio.dns.failure"), 1)
	assert.Equal(t, int64(1), total(c.output.points("dns.lookup.duration"), "error.type", "timeout"))
	assert.Equal(t, int64(1), total(c.output.points("tapio.dns.retries")))
}

// TestQueryThatIsWaitedForAtTheEnd: whether it would have been answered nobody can know any more.
func TestQueryThatIsWaitedForAtTheEnd(t *testing.T) {
	c, _ := askInVainOf(t, "1m")
	rows := c.stop()
	assert.Equal(t, row{Seen: 2, Lost: map[string]uint64{"shutdown": 2}}, rows["dns"])
	assert.Empty(t, named(c.output.spans, "dns.query"))
}

// searchList is what a pod's resolv.conf has.
var searchList = []string{"ns.svc.cluster.test", "svc.cluster.test", "cluster.test"}

// TestSearchList has the C library's resolver look names up as in a pod: it tries all of the search
// list before the name itself.
func TestSearchList(t *testing.T) {
	requireBPF(t)
	scope := newCgroup(t)
	host := fmt.Sprintf("127.77.%d.%d", rand.N(250), rand.N(250)+1) // resolv.conf has no ports
	server := startNameServer(t, host, 53)
	c := startCollector(t, scope)
	name := "web.found.test"
	lookups := map[int64]string{}
	for _, name := range []string{name, "missing.test"} {
		lookups[getent(t, scope, host, name)] = name
	}
	var want []string
	for _, name := range lookups {
		for _, suffix := range append(searchList, "") {
			full := strings.TrimSuffix(name+"."+suffix, ".")
			want = append(want, "A "+full, "AAAA "+full)
		}
	}
	slices.Sort(want)
	require.Equal(t, want, server.waitAsked(t, len(want)), "the resolver does not do what this test is about")
	c.await("two lookups", func(o *output) bool { return len(named(o.spans, "dns.lookup")) >= 2 })
	counts := stopDNS(c)
	assert.EqualValues(t, 2*len(want), counts.Exported)
	assert.Equal(t, want, questionsOf(named(c.output.spans, "dns.query")))
	parents := named(c.output.spans, "dns.lookup")
	require.Len(t, parents, 2)
	for _, parent := range parents {
		assert.Equal(t, lookups[parent.pid()], parent.text("dns.question.name"))
		checkLookup(t, parent, parent.text("dns.question.name") == name, named(c.output.spans, "dns.query"))
	}
	assert.Equal(t, int64(6+8), total(c.output.points("tapio.dns.wasted_queries")))
}

func checkLookup(t *testing.T, parent item, found bool, queries []item) {
	t.Helper()
	wasted, status, errorType := int64(6), ptrace.StatusCodeUnset, ""
	if !found {
		wasted, status, errorType = 8, ptrace.StatusCodeError, "NXDOMAIN"
	}
	assert.Equal(t, int64(4), parent.number("tapio.dns.lookup.attempts"))
	assert.Equal(t, wasted, parent.number("tapio.dns.lookup.wasted_queries"))
	assert.Equal(t, status, parent.status)
	assert.Equal(t, errorType, parent.text("error.type"))
	assert.Equal(t, found, slices.Contains(answersOf(parent), any("192.0.2.7")))
	assert.Equal(t, found, slices.Contains(answersOf(parent), any("2001:db8::7")))
	children := filter(queries, func(i item) bool { return i.traceID == parent.traceID })
	assert.Len(t, children, 8)
	for _, child := range children {
		assert.Equal(t, parent.spanID, child.parentID)
		assert.Equal(t, parent.pid(), child.pid())
		assert.LessOrEqual(t, parent.time, child.time)
		assert.GreaterOrEqual(t, parent.end, child.end)
	}
}

// getent looks a name up with a resolv.conf of its own, and returns its pid.
func getent(t *testing.T, scope cgroup, server, name string) int64 {
	t.Helper()
	dir := publicDir(t)
	resolvConf, nsswitchConf := filepath.Join(dir, "resolv.conf"), filepath.Join(dir, "nsswitch.conf")
	require.NoError(t, os.WriteFile(resolvConf, []byte("nameserver "+server+"\nsearch "+strings.Join(searchList, " ")+"\noptions ndots:5\n"), 0o644))
	require.NoError(t, os.WriteFile(nsswitchConf, []byte("hosts: dns\n"), 0o644))
	command := exec.Command("unshare", "--mount", "sh", "-ec",
		`mount --bind "$1" /etc/resolv.conf; mount --bind "$2" /etc/nsswitch.conf; exec getent ahosts "$3"`,
		"sh", resolvConf, nsswitchConf, name)
	command.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	scope.place(command)
	out, err := command.CombinedOutput()
	if code := command.ProcessState.ExitCode(); code != 0 && code != 2 { // 2: not found
		require.NoError(t, errors.Join(err, errors.New(string(out))))
	}
	return int64(command.Process.Pid)
}
