// Copyright The otelcol-tapio Authors
// SPDX-License-Identifier: Apache-2.0

package simulator

import (
	"bytes"
	"crypto/sha256"
	"encoding/binary"
	"encoding/hex"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"go.uber.org/zap"
	"go.uber.org/zap/zaptest/observer"

	"github.com/tapio-io/otelcol-tapio/bpf"
	"github.com/tapio-io/otelcol-tapio/receiver/tapioebpfreceiver/internal/event"
	"github.com/tapio-io/otelcol-tapio/receiver/tapioebpfreceiver/internal/protocol/dns"
	"github.com/tapio-io/otelcol-tapio/receiver/tapioebpfreceiver/internal/protocol/http1"
	"github.com/tapio-io/otelcol-tapio/receiver/tapioebpfreceiver/internal/source/kernel"
)

var allFamilies = []string{"process", "network", "dns", "http", "security"}

// sensitivePaths are what the simulated programs read.
var sensitivePaths = []string{
	"/etc/shadow", "/etc/gshadow", "/etc/sudoers", "/etc/ssh/ssh_host_ed25519_key", "/etc/ssl/private/",
	"/run/secrets/kubernetes.io/serviceaccount/", "/var/lib/kubelet/pki/",
}

func newSource(t testing.TB, o Options) *Source {
	t.Helper()
	s, err := New(o, zap.NewNop())
	require.NoError(t, err)
	return s
}

func options(seed uint64) Options {
	return Options{
		Seed: seed, Pods: 20, Families: allFamilies, FlushInterval: time.Millisecond, ReportInterval: 100 * time.Millisecond,
		Security:  kernel.SecurityOptions{Kinds: event.SecurityKinds(), Paths: sensitivePaths},
		Scenarios: Scenarios{Errors: 0.03, SearchLists: 0.3, NXDomainStorm: 0.01, CrashLoop: 0.02, NoisyNeighbor: 0.002, Attack: 0.002},
	}
}

// readSome returns copies of at least n records.
func readSome(t testing.TB, s *Source, n int) (found [][]byte) {
	t.Helper()
	for len(found) < n {
		require.NoError(t, s.Read(func(record []byte) { found = append(found, bytes.Clone(record)) }))
	}
	return found
}

// firstRecords is the hash of the first 20,000 records of seed 7, on any machine on which the least byte of a number
// comes first. Whatever changes what the simulator tells changes it: then it is to be set anew.
const firstRecords = "dcefea2649b038ba767857fb478f56f4166c09fcc4bccd544fd852eaccdc975c"

func TestTheSameSeedMakesTheSameRecords(t *testing.T) {
	sum := func(seed uint64) string {
		hash := sha256.New()
		for _, record := range readSome(t, newSource(t, options(seed)), 20_000)[:20_000] {
			hash.Write(record)
		}
		return hex.EncodeToString(hash.Sum(nil))
	}
	if binary.NativeEndian.Uint16([]byte{1, 0}) == 1 { // records are in the machine's order
		assert.Equal(t, firstRecords, sum(7))
	}
	assert.Equal(t, sum(7), sum(7))
	assert.NotEqual(t, sum(7), sum(8))
}

func familyOf(t testing.TB, record []byte) event.Family {
	t.Helper()
	header, err := event.DecodeHeader(record)
	require.NoError(t, err)
	return event.Type(header.Type).Family()
}

func TestFamiliesHaveTheirShares(t *testing.T) {
	for _, families := range [][]string{allFamilies, {"process", "network", "dns", "http"}, {"http", "dns"}, {"process"}, {"security"}, {"process", "security"}} {
		o := options(1)
		o.Families = families
		s := newSource(t, o)
		records := readSome(t, s, 40_000)
		counts := map[event.Family]float64{}
		for _, record := range records {
			counts[familyOf(t, record)]++
		}
		all := float64(len(records)) - counts[event.FamilyCgroup]
		delete(counts, event.FamilyCgroup)
		require.Len(t, counts, len(families))
		var sum float64
		for family := range counts {
			sum += weights[family]
		}
		for family, n := range counts {
			assert.InDelta(t, weights[family]/sum, n/all, 0.02, "%v of %v", family, families)
		}
		counters, err := s.Counters()
		require.NoError(t, err)
		for family, n := range counts {
			assert.EqualValues(t, n, counters[uint8(family)].Seen)
		}
	}
}

func TestRate(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		o := options(1)
		o.Rate = 20_000
		s := newSource(t, o)
		began := time.Now()
		n, before := 0, time.Duration(0)
		for time.Since(began) < 500*time.Millisecond {
			before = time.Since(began)
			require.NoError(t, s.Read(func([]byte) { n++ }))
		}
		after := time.Since(began)
		// what was begun at the end has not told all
		assert.GreaterOrEqual(t, float64(n), 0.9*o.Rate*before.Seconds())
		assert.LessOrEqual(t, float64(n), 1.1*o.Rate*after.Seconds())
		assert.Equal(t, time.Now(), s.Wall())
		assert.False(t, s.Patient())
	})
}

// TestARateThatIsTooHigh: turns and memory have their bounds, and the records are those of any machine.
func TestARateThatIsTooHigh(t *testing.T) {
	logged, logs := observer.New(zap.WarnLevel)
	o := options(1)
	o.Rate = 10_000_000
	s, err := New(o, zap.New(logged))
	require.NoError(t, err)
	s.maxMade = 50_000
	first, wasFull := sha256.New(), false
	read := 0
	for began := time.Now(); time.Since(began) < 2*time.Second || !wasFull; {
		turn, before := 0, s.Wall()
		require.NoError(t, s.Read(func(record []byte) {
			turn++
			first.Write(record)
		}))
		read += turn
		require.LessOrEqual(t, turn, turnSteps)
		require.LessOrEqual(t, len(s.made), s.maxMade+10_000, "and what the last story had")
		require.False(t, s.Wall().Before(before))
		wasFull = wasFull || len(s.made) >= s.maxMade
	}
	require.Equal(t, 1, logs.Len(), "said once")
	assert.Equal(t, "The simulator cannot make as many events as its rate says", logs.All()[0].Message)

	again, n := sha256.New(), 0
	same := newSource(t, o)
	same.maxMade = s.maxMade
	for n < read { // as a machine has it that is never late: turns end elsewhere
		same.handOutUntil(same.nextTime()+1000, func(record []byte) {
			if n++; n <= read {
				again.Write(record)
			}
		})
	}
	assert.Equal(t, first.Sum(nil), again.Sum(nil), "of %d records", read)
}

func TestReadWaitsNoLongerThanTheFlushInterval(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		o := options(1)
		o.Rate = 0.001
		s := newSource(t, o)
		readSome(t, s, 1) // the first story begins at once
		for range 10 {
			began := time.Now()
			require.NoError(t, s.Read(func([]byte) {}))
			assert.LessOrEqual(t, time.Since(began), o.FlushInterval)
		}
		require.NoError(t, s.Stop(func([]byte) { t.Error("a record at the end") }))
		require.NoError(t, s.Read(func([]byte) { t.Error("a record after the end") }))
	})
}

type key struct {
	pid   uint32
	start uint64
}

type user struct{ uid, euid uint32 }

// checker follows all records.
type checker struct {
	*testing.T
	source    *Source
	users     map[key]user
	pids      map[uint32]bool     // in use
	alive     map[key]uint64      // the cgroup of each process
	addresses map[uint64][16]byte // of each cgroup that is a pod's
	cgroups   map[[16]byte]uint64
	paths     map[uint64]string // of cgroups
	isKnown   map[string]bool   // of paths
	restarts  map[string]int    // of each pod's container that crashes
	last      uint64
}

func newChecker(t *testing.T, s *Source) *checker {
	c := &checker{
		T: t, source: s, users: map[key]user{}, pids: map[uint32]bool{}, alive: map[key]uint64{}, addresses: map[uint64][16]byte{},
		cgroups: map[[16]byte]uint64{}, paths: map[uint64]string{}, isKnown: map[string]bool{}, restarts: map[string]int{},
	}
	for _, p := range s.world.older {
		c.alive[key{p.pid, p.start}] = p.cgroup
		c.pids[p.pid] = true
		c.users[key{p.pid, p.start}] = user{p.credentials.Uid, p.credentials.Euid}
	}
	for _, of := range s.Cgroups() {
		c.paths[of.ID], c.isKnown[of.Path] = of.Path, true
	}
	return c
}

func (c *checker) check(record []byte) {
	header, err := event.DecodeHeader(record)
	require.NoError(c, err)
	if !endsBySilence(c, record) {
		require.GreaterOrEqual(c, header.Time, c.last, "time goes on")
		c.last = header.Time
	}
	who := key{header.Pid, header.StartTime}
	switch kind := event.Type(header.Type); kind {
	case event.TypeCgroupMade, event.TypeCgroupRemoved:
		c.cgroup(kind, header, record)
	case event.TypeProcessFork:
		e, err := event.DecodeProcessFork(record)
		require.NoError(c, err)
		require.Zero(c, c.alive[who])
		require.False(c, c.pids[header.Pid], "a pid that is in use")
		c.pids[header.Pid] = true
		require.Equal(c, header.CgroupId < firstPodCgroup, e.Process.Vpid == header.Pid, "only a container numbers them anew")
		require.NotZero(c, c.alive[key{e.Process.ParentPid, e.Process.ParentStartTime}], "its parent lives")
		c.alive[who] = header.CgroupId
		c.users[who] = user{e.Process.Uid, e.Process.Euid}
	case event.TypeProcessExec:
		e, err := event.DecodeProcessExec(record)
		require.NoError(c, err)
		require.NotEmpty(c, e.Exe)
		require.NotEmpty(c, e.Args)
		c.lives(who, header)
		require.Equal(c, c.users[who].uid, e.Process.Uid)
		c.users[who] = user{e.Process.Uid, e.Process.Euid}
	case event.TypeProcessExit:
		_, err := event.DecodeProcessExit(record)
		require.NoError(c, err)
		c.lives(who, header)
		delete(c.alive, who)
		delete(c.pids, header.Pid)
	case event.TypeProcessOOMKill:
		c.lives(who, header)
	case event.TypeSecurityAction:
		c.lives(who, header)
		c.security(header, record)
	default:
		c.lives(who, header)
		c.traffic(kind, header, record)
	}
}

// endsBySilence: such a flow has ended with its last packet, and that is told later.
func endsBySilence(t testing.TB, record []byte) bool {
	header, err := event.DecodeHeader(record)
	require.NoError(t, err)
	if event.Type(header.Type) != event.TypeConnectionClose {
		return false
	}
	e, err := event.DecodeConnectionStats(record)
	require.NoError(t, err)
	return e.Ends.Role == event.RoleUnknown
}

func (c *checker) lives(who key, header *event.Header) {
	require.NotZero(c, c.alive[who], "it lives")
	require.Equal(c, c.alive[who], header.CgroupId, "a process stays where it is")
}

func (c *checker) traffic(kind event.Type, header *event.Header, record []byte) {
	switch kind {
	case event.TypeConnectionConnect:
		e, err := event.DecodeConnectionConnect(record)
		require.NoError(c, err)
		c.local(header.CgroupId, &e.Ends)
	case event.TypeConnectionClose, event.TypeConnectionReport:
		e, err := event.DecodeConnectionStats(record)
		require.NoError(c, err)
		c.local(header.CgroupId, &e.Ends)
	case event.TypeHTTPExchange:
		e, err := event.DecodeHTTPExchange(record)
		require.NoError(c, err)
		_, err = http1.ParseRequest(e.Request)
		require.NoError(c, err)
		c.local(header.CgroupId, &e.Ends)
	case event.TypeDNSMessage:
		e, err := event.DecodeDNSMessage(record)
		require.NoError(c, err)
		err = dns.NewDecoder().Decode(e.Payload, new(dns.Message))
		require.NoError(c, err)
		c.local(header.CgroupId, &e.Ends)
	default:
		require.Fail(c, "a record of another type", "%#x", kind)
	}
}

// cgroup of a container, which is made with an id that was not there before, and is empty when it is removed.
func (c *checker) cgroup(kind event.Type, header *event.Header, record []byte) {
	e, err := event.DecodeCgroupChange(record)
	require.NoError(c, err)
	if kind == event.TypeCgroupRemoved {
		require.Equal(c, c.paths[header.CgroupId], string(e.Path))
		for who, cgroup := range c.alive {
			if cgroup == header.CgroupId {
				require.Fail(c, "it is not empty", "process %d is in it", who.pid)
			}
		}
		return
	}
	require.Empty(c, c.paths[header.CgroupId])
	require.False(c, c.isKnown[string(e.Path)], "each restart is another container")
	c.paths[header.CgroupId], c.isKnown[string(e.Path)] = string(e.Path), true
	id := strings.TrimSuffix(string(e.Path[bytes.LastIndexByte(e.Path, '-')+1:]), ".scope")
	known, found := c.source.Restarted(id)
	require.True(c, found)
	require.Contains(c, strings.ReplaceAll(string(e.Path), "_", "-"), known.UID)
	require.Equal(c, c.restarts[known.UID], known.Restarts)
	c.restarts[known.UID]++
}

// local has a pod's cgroup and its address belong to each other.
func (c *checker) local(cgroup uint64, ends *bpf.WireConnectionEnds) {
	if cgroup < 1000 {
		return // the host's
	}
	if known, ok := c.addresses[cgroup]; ok {
		require.Equal(c, known, ends.LocalAddress)
	}
	if known, ok := c.cgroups[ends.LocalAddress]; ok {
		require.Equal(c, known, cgroup)
	}
	c.addresses[cgroup], c.cgroups[ends.LocalAddress] = ends.LocalAddress, cgroup
}

// TestTheWorldIsConsistent: every record can be decoded, time goes on, processes begin before and end
// after what they do, and pod, cgroup and address always belong together.
func TestTheWorldIsConsistent(t *testing.T) {
	for _, pods := range []int{1, 20, 600} {
		o := options(3)
		o.Pods, o.Scenarios.Attack = pods, 0.02
		s := newSource(t, o)
		c := newChecker(t, s)
		for range 8 {
			require.NoError(t, s.Read(c.check))
		}
		assert.GreaterOrEqual(t, len(c.addresses), min(pods, 100))
		assert.Less(t, len(c.alive), len(s.world.older)+1000, "processes end")
		assert.NotEmpty(t, c.restarts)
	}
}

func TestOlderProcesses(t *testing.T) {
	s := newSource(t, options(1))
	known := s.Processes()
	assert.Len(t, known, 4+2*20+5, "system, kubelet, cron, containerd, of each pod a shim and a server, and of two services a worker")
	pids := map[uint32]bool{0: true}
	for _, p := range known {
		assert.True(t, pids[p.ParentPID], "its parent is older")
		assert.False(t, pids[p.PID])
		assert.NotEmpty(t, p.Executable)
		pids[p.PID] = true
	}
}

// Whose a process is can be told of all: each is in a cgroup whose path is known.
func TestCgroups(t *testing.T) {
	s := newSource(t, options(1))
	paths := map[uint64]string{}
	for _, c := range s.Cgroups() {
		assert.Empty(t, paths[c.ID])
		paths[c.ID] = c.Path
	}
	for _, p := range s.Processes() {
		assert.NotEmpty(t, paths[p.CgroupID])
	}
	for _, p := range s.world.pods {
		assert.Contains(t, paths[p.server.cgroup], p.container)
		assert.Contains(t, strings.ReplaceAll(paths[p.server.cgroup], "_", "-"), p.uid)
	}
	for range 20 {
		require.NoError(t, s.Read(func(record []byte) {
			header, err := event.DecodeHeader(record)
			require.NoError(t, err)
			if event.Type(header.Type) == event.TypeCgroupMade {
				e, err := event.DecodeCgroupChange(record)
				require.NoError(t, err)
				paths[header.CgroupId] = string(e.Path)
			}
			require.NotEmpty(t, paths[header.CgroupId])
		}))
	}
	_, found := s.Cgroup(1, 1)
	assert.False(t, found)
}

// BenchmarkRecords is what making a record costs.
func BenchmarkRecords(b *testing.B) {
	s := newSource(b, options(1))
	b.ReportAllocs()
	for done := 0; done < b.N; {
		require.NoError(b, s.Read(func([]byte) { done++ }))
	}
}

// TestCauses: what a server sends while it serves a request names that request, its process and its thread.
func TestCauses(t *testing.T) {
	type request struct{ sequence, acknowledged uint32 }
	served, sent := map[request]bpf.WireHttpExchange{}, []bpf.WireHttpExchange{}
	s := newSource(t, options(3))
	for range 8 {
		require.NoError(t, s.Read(func(record []byte) {
			header, err := event.DecodeHeader(record)
			require.NoError(t, err)
			if event.Type(header.Type) != event.TypeHTTPExchange {
				return
			}
			e, err := event.DecodeHTTPExchange(record)
			require.NoError(t, err)
			switch {
			case e.Ends.Role == event.RoleServer:
				served[request{e.RequestSequence, e.RequestAcknowledged}] = *e.WireHttpExchange
			case e.Cause.Flags&event.CauseThread != 0:
				sent = append(sent, *e.WireHttpExchange)
			}
		}))
	}
	found := 0
	for _, client := range sent {
		server, ok := served[request{client.Cause.Sequence, client.Cause.Acknowledged}]
		if !ok {
			continue // it is not over
		}
		found++
		require.Equal(t, server.Header.Pid, client.Header.Pid)
		require.Equal(t, server.Cause.Thread, client.Cause.Thread)
		require.Less(t, server.RequestStart, client.RequestStart)
		require.Less(t, client.ResponseEnd, server.Header.Time)
	}
	assert.Greater(t, found, 100)
	assert.Greater(t, found, len(sent)*9/10)
}

// TestWhatLasts: connections and flows are reported before they end, each byte once, by both of their sides, and what
// a server in the cluster was asked it was asked by somebody.
func TestWhatLasts(t *testing.T) {
	type side struct {
		local, peer         [16]byte
		localPort, peerPort uint16
		protocol            uint8
	}
	type carried struct{ sent, received, reports uint64 }
	open, ended := map[side]carried{}, map[side]carried{}
	byServer := map[uint8]int{} // flows that ended there, by role
	s := newSource(t, options(4))
	for _, record := range readSome(t, s, 60_000) {
		header, err := event.DecodeHeader(record)
		require.NoError(t, err)
		kind := event.Type(header.Type)
		if kind != event.TypeConnectionReport && kind != event.TypeConnectionClose {
			continue
		}
		e, err := event.DecodeConnectionStats(record)
		require.NoError(t, err)
		at := side{e.Ends.LocalAddress, e.Ends.PeerAddress, e.Ends.LocalPort, e.Ends.PeerPort, e.Ends.Protocol}
		so := open[at]
		require.Equal(t, so.reports == 0, e.Flags&event.ConnectionFirstRecord != 0, "its first record says so")
		so = carried{so.sent + e.SentBytesDelta, so.received + e.ReceivedBytesDelta, so.reports + 1}
		require.Equal(t, [2]uint64{e.SentBytes, e.ReceivedBytes}, [2]uint64{so.sent, so.received}, "each byte once")
		require.Equal(t, e.Ends.Role != event.RoleUnknown, e.Opened != 0)
		if open[at] = so; kind == event.TypeConnectionClose {
			delete(open, at)
			ended[at] = so
			if e.Ends.LocalPort == 53 {
				byServer[e.Ends.Role]++
			}
		}
	}
	lasting := map[uint8]int{}
	for at, end := range ended {
		if end.reports < 2 || at.localPort < at.peerPort {
			continue // of a server
		}
		lasting[at.protocol]++
		if other, ok := ended[side{at.peer, at.local, at.peerPort, at.localPort, at.protocol}]; ok {
			assert.Equal(t, end, carried{other.received, other.sent, other.reports}, "what one has sent the other has received")
		}
	}
	assert.Positive(t, lasting[event.ProtocolTCP])
	assert.Positive(t, lasting[event.ProtocolUDP])
	assert.Len(t, byServer, 1)
	assert.Positive(t, byServer[event.RoleUnknown], "a server's socket is older than the source")
}

// TestResets: a request whose connection was reset is that connection's last, and both ends say so.
func TestResets(t *testing.T) {
	s := newSource(t, options(5))
	cut, sent, received := map[bpf.WireConnectionEnds]bool{}, 0, 0
	for _, record := range readSome(t, s, 60_000) {
		header, err := event.DecodeHeader(record)
		require.NoError(t, err)
		switch event.Type(header.Type) {
		case event.TypeHTTPExchange:
			e, err := event.DecodeHTTPExchange(record)
			require.NoError(t, err)
			if e.Ends.Role == event.RoleClient {
				require.False(t, cut[e.Ends], "a request on a connection that was reset")
				cut[e.Ends] = e.Error != 0
			}
		case event.TypeConnectionClose:
			e, err := event.DecodeConnectionStats(record)
			require.NoError(t, err)
			if e.Ends.Protocol != event.ProtocolTCP {
				continue
			}
			if e.Ends.Role == event.RoleClient {
				require.Equal(t, cut[e.Ends], e.Error == connectionReset)
				delete(cut, e.Ends)
			}
			if e.Error != 0 {
				received++
			}
			if e.Flags&event.ConnectionAborted != 0 {
				sent++
			}
		}
	}
	assert.Positive(t, received)
	assert.Positive(t, sent)
}

// TestCronAndShells: some programs are started by cron, some fail for what they needed, and some take the place of
// others.
func TestCronAndShells(t *testing.T) {
	s := newSource(t, options(6))
	ends, replaced, began := map[uint32]int{}, 0, map[key]int{}
	outside := 0
	for _, record := range readSome(t, s, 60_000) {
		header, err := event.DecodeHeader(record)
		require.NoError(t, err)
		switch event.Type(header.Type) {
		case event.TypeProcessExec:
			began[key{header.Pid, header.StartTime}]++
			if began[key{header.Pid, header.StartTime}] == 2 {
				replaced++
			}
		case event.TypeProcessExit:
			e, err := event.DecodeProcessExit(record)
			require.NoError(t, err)
			ends[e.Status]++
			require.Equal(t, e.CpuTime != 0, e.Flags&event.ExitHasUsage != 0)
			if header.CgroupId == cronCgroup {
				outside++
			}
		}
	}
	for _, status := range []uint32{0, failure, noName, notReached, killed, childKilled} {
		assert.Positive(t, ends[status], "%#x", status)
	}
	assert.Positive(t, replaced)
	assert.Greater(t, outside, 20, "of cron")
}
