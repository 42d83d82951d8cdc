// Copyright The otelcol-tapio Authors
// SPDX-License-Identifier: Apache-2.0

//go:build linux && (amd64 || arm64)

package kernel

import (
	"bytes"
	"encoding/gob"
	"fmt"
	"maps"
	"math/rand/v2"
	"net/netip"
	"os/exec"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"go.opentelemetry.io/collector/pdata/pcommon"
	"go.opentelemetry.io/collector/pdata/pmetric"
	"go.opentelemetry.io/collector/pdata/ptrace"
	"golang.org/x/sys/unix"

	"github.com/tapio-io/otelcol-tapio/bpf"
	"github.com/tapio-io/otelcol-tapio/receiver/tapioebpfreceiver/internal/correlate"
	"github.com/tapio-io/otelcol-tapio/receiver/tapioebpfreceiver/internal/event"
	"github.com/tapio-io/otelcol-tapio/receiver/tapioebpfreceiver/internal/event/eventtest"
	"github.com/tapio-io/otelcol-tapio/receiver/tapioebpfreceiver/internal/identity"
	"github.com/tapio-io/otelcol-tapio/receiver/tapioebpfreceiver/internal/ledger"
	"github.com/tapio-io/otelcol-tapio/receiver/tapioebpfreceiver/internal/source"
	"github.com/tapio-io/otelcol-tapio/receiver/tapioebpfreceiver/internal/translate"
)

// Conversations of DNS are drawn so that it is known by construction what must be told of them, up to spans, failures, metrics
// and the ledger. TAPIO_DNS_SEED=17 TAPIO_DNS_CONVERSATIONS=1 plays one again.
func TestWhateverIsAskedOfDNSIsToldAsItIs(t *testing.T) {
	for _, limit := range []uint64{0, 1_000_000} {
		first, count := drawnFrom(t, "TAPIO_DNS_SEED", "TAPIO_DNS_CONVERSATIONS", 60)
		for ; count > 0; first, count = first+min(count, togetherInAWorld), count-min(count, togetherInAWorld) {
			t.Run(fmt.Sprintf("limit %d from %d", limit, first), func(t *testing.T) {
				requireDNSToldAsDrawn(t, limit, first, min(count, togetherInAWorld))
			})
		}
	}
}

func withDrawnDNS(limit uint64) func(*Options) {
	return func(o *Options) {
		o.Families = []string{familyDNS}
		o.DNSPorts = []uint16{drawnPort, otherDrawnPort}
		o.DNSTimeout = drawnTimeout
		o.RingSize = 16 << 20
		if limit > 0 { // that nobody reaches
			o.RateLimits = map[string]uint64{familyDNS: limit}
		}
	}
}

// playersOfDNS share the conversations.
const playersOfDNS = 2

func requireDNSToldAsDrawn(t *testing.T, limit, first, count uint64) {
	t.Helper()
	const attempts = 5 // on a machine that is busy with other things
	for range attempts {
		w := newWorld(t, withDrawnDNS(limit))
		plays := w.playDNS(first, count)
		w.finish()
		if slices.ContainsFunc(plays, dnsPlay.wasSlow) {
			t.Log("the machine was too slow for what must not time out")
			continue
		}
		w.assertDNSToldAsDrawn(plays)
		return
	}
	t.Errorf("%d times the machine was too slow for what must not time out", attempts)
}

// dnsPlay is a conversation that was played.
type dnsPlay struct {
	dnsConversation
	dnsPlayed
	pid     uint32
	records [][]byte
	events  map[*said]uint64 // that end with what was said
	repeats uint64           // segments that TCP has sent again
}

// wasSlow says that something may have timed out that must not.
func (p dnsPlay) wasSlow() bool {
	began := p.Times[0][0]
	for i, step := range p.script.Steps {
		switch {
		case step.Do == "wait" && i+1 < len(p.Times):
			began = p.Times[i+1][0]
		case step.Do == "wait":
		case p.Times[i][1]-began >= uint64(drawnTimeout):
			return true
		}
	}
	return false
}

func (w *world) playDNS(first, count uint64) []dnsPlay {
	w.t.Helper()
	plays := make([][]dnsPlay, playersOfDNS)
	for seed := first; seed < first+count; seed++ {
		c := drawDNSConversation(seed)
		if len(c.script.Steps) > 0 {
			plays[seed%playersOfDNS] = append(plays[seed%playersOfDNS], dnsPlay{dnsConversation: c, events: map[*said]uint64{}})
		}
	}
	failures := make([]error, playersOfDNS)
	var all sync.WaitGroup
	for i, own := range plays {
		command := w.workload("dns-scripts")
		command.SysProcAttr.Cloneflags = unix.CLONE_NEWNET
		all.Go(func() { failures[i] = playIn(command, own) })
	}
	all.Wait()
	for _, err := range failures {
		require.NoError(w.t, err, "conversations from %d", first)
	}
	return slices.Concat(plays...)
}

func playIn(command *exec.Cmd, plays []dnsPlay) error {
	var scripts []dnsScript
	for _, p := range plays {
		scripts = append(scripts, p.script)
	}
	var text bytes.Buffer
	if err := gob.NewEncoder(&text).Encode(scripts); err != nil { // not JSON, as names have any bytes
		return fmt.Errorf("write what is to be played: %w", err)
	}
	command.Stdin = &text
	output, err := command.Output()
	if err != nil {
		return fmt.Errorf("play: %w", err)
	}
	var played []dnsPlayed
	if err := gob.NewDecoder(bytes.NewReader(output)).Decode(&played); err != nil {
		return fmt.Errorf("read what was played: %w", err)
	}
	for i := range plays {
		plays[i].dnsPlayed, plays[i].pid = played[i], uint32(command.Process.Pid)
	}
	return nil
}

// --- records ---------------------------------------------------------------------------------

func (w *world) assertDNSToldAsDrawn(plays []dnsPlay) {
	w.t.Helper()
	w.shareOut(plays)
	var all dnsTold
	var wanted wantedOfDNS
	told := newDNSTranslator()
	for i := range plays {
		p := &plays[i]
		before := w.t.Failed()
		p.assertRecords(w.t)
		want := p.wanted()
		own := newDNSTranslator()
		own.handle(p.records)
		p.assertTold(w.t, want, own.told(w.t, uint64(len(p.records))))
		p.assertToldInDisorder(w.t, want)
		wanted.add(want)
		if w.t.Failed() && !before {
			w.t.Logf("seed %d is this conversation:\n%s", p.seed, p.dnsConversation)
		}
	}
	records := w.ofDNS()
	told.handle(records)
	all = told.told(w.t, w.counters()[uint8(event.FamilyDNS)].Seen)
	assert.Equal(w.t, source.Counters{Seen: uint64(len(records))}, w.counters()[uint8(event.FamilyDNS)])
	if !w.t.Failed() { // else it says the same in many words
		wanted.assertEqual(w.t, "all conversations", all)
	}
}

func (w *world) ofDNS() [][]byte {
	w.mu.Lock()
	defer w.mu.Unlock()
	return slices.DeleteFunc(slices.Clone(w.records), func(record []byte) bool {
		header, err := event.DecodeHeader(record)
		require.NoError(w.t, err)
		return event.Type(header.Type).Family() != event.FamilyDNS
	})
}

// shareOut the records to the conversations that they are of.
func (w *world) shareOut(plays []dnsPlay) {
	w.t.Helper()
	owners := map[uint64]*dnsPlay{}
	for i := range plays {
		for _, cookie := range slices.Concat(plays[i].Clients, plays[i].Servers) {
			owners[cookie] = &plays[i]
		}
	}
	for _, record := range w.ofDNS() {
		e, _ := decodeDNSRecord(w.t, record)
		if owner := owners[e.Socket]; assert.NotNil(w.t, owner, "the socket of a record, from port %d to %d", e.Ends.LocalPort, e.Ends.PeerPort) {
			owner.records = append(owner.records, record)
		}
	}
}

func decodeDNSRecord(t testing.TB, record []byte) (*bpf.WireDnsMessage, []byte) {
	t.Helper()
	e, err := event.DecodeDNSMessage(eventtest.Aligned(record))
	require.NoError(t, err)
	return e.WireDnsMessage, e.Payload
}

func (p *dnsPlay) assertRecords(t testing.TB) {
	t.Helper()
	seen := 0
	for i, cookie := range p.Clients {
		if p.script.Sockets[i].Network == "tcp" {
			seen += p.assertSegments(t, i, true) + p.assertSegments(t, i, false)
		} else {
			seen += p.assertDatagrams(t, dnsEnd{number: i}, cookie)
		}
	}
	for i, cookie := range p.Servers {
		seen += p.assertDatagrams(t, dnsEnd{true, i}, cookie)
	}
	assert.Equal(t, len(p.records), seen, "seed %d: records that are looked at", p.seed)
}

type dnsRecord struct {
	*bpf.WireDnsMessage
	payload []byte
}

func (p *dnsPlay) recordsOf(t testing.TB, cookie uint64) (found []dnsRecord) {
	t.Helper()
	for _, record := range p.records {
		if e, payload := decodeDNSRecord(t, record); e.Socket == cookie {
			found = append(found, dnsRecord{e, payload})
		}
	}
	return found
}

func (r dnsRecord) isSent() bool { return r.Flags&event.DNSSent != 0 }

func (p *dnsPlay) assertDatagrams(t testing.TB, end dnsEnd, cookie uint64) int {
	t.Helper()
	records, all := p.recordsOf(t, cookie), p.ofSocket(end)
	for i := range min(len(records), len(all)) {
		r, s := records[i], all[i]
		about := fmt.Sprintf("seed %d: message %d of %+v", p.seed, i, end)
		assert.Equal(t, s.sent, r.isSent(), about)
		assert.EqualValues(t, len(s.text), r.Size, about)
		assert.Equal(t, s.text[:min(len(s.text), readOfMessage)], string(r.payload), about)
		assert.EqualValues(t, event.ProtocolUDP, r.Ends.Protocol, about)
		p.assertAround(t, r, s, about)
		p.events[s] = 1
	}
	assert.Len(t, records, len(all), "seed %d: messages of %+v", p.seed, end)
	return len(records)
}

// assertAround what is said, who has said it when.
func (p *dnsPlay) assertAround(t testing.TB, r dnsRecord, s *said, about string) {
	t.Helper()
	assert.Equal(t, p.pid, r.Header.Pid, about)
	assert.NotZero(t, r.Header.StartTime, about)
	assert.NotZero(t, r.Ends.Netns, about)
	assert.GreaterOrEqual(t, r.Header.Time, p.Times[s.step][0], about)
	assert.LessOrEqual(t, r.Header.Time, p.Times[s.step][1], about)
	server, peer := netip.MustParseAddrPort(p.script.Servers[s.server]), addressSaid(r.Ends.PeerAddress, r.Ends.PeerPort)
	if s.socket.isServer {
		assert.Equal(t, server, addressSaid(r.Ends.LocalAddress, r.Ends.LocalPort), about)
		return
	}
	assert.Equal(t, server, peer, about)
	if seen := p.Addresses[s.step]; seen != "" {
		assert.Equal(t, unmapped(netip.MustParseAddrPort(seen)), addressSaid(r.Ends.LocalAddress, r.Ends.LocalPort), about)
	}
}

func addressSaid(address [16]byte, port uint16) netip.AddrPort {
	return netip.AddrPortFrom(event.Address(address), port)
}

func unmapped(a netip.AddrPort) netip.AddrPort { return netip.AddrPortFrom(a.Addr().Unmap(), a.Port()) }

// assertSegments of one direction, which are put together by their numbers.
func (p *dnsPlay) assertSegments(t testing.TB, client int, sent bool) int {
	t.Helper()
	all := slices.DeleteFunc(p.ofSocket(dnsEnd{number: client}), func(s *said) bool { return s.sent != sent })
	about := fmt.Sprintf("seed %d: client %d, sent %t", p.seed, client, sent)
	var text string
	for _, s := range all {
		text += s.text
	}
	at, looked, pending := 0, 0, uint64(0)
	var next uint32
	for _, r := range p.recordsOf(t, p.Clients[client]) {
		if r.isSent() != sent {
			continue
		}
		if looked++; looked == 1 {
			next = r.Sequence
		}
		if r.Sequence != next { // spurious, as nothing is lost here
			assert.Negative(t, int32(r.Sequence+r.Size-next)-1, about)
			p.repeats++
			continue
		}
		next += r.Size
		if !assert.LessOrEqual(t, at+int(r.Size), len(text), about) {
			return looked
		}
		assert.Equal(t, text[at:at+min(int(r.Size), readOfMessage)], string(r.payload), about)
		assert.EqualValues(t, event.ProtocolTCP, r.Ends.Protocol, about)
		p.assertAround(t, r, spoken(all, at), about)
		at += int(r.Size)
		pending = p.noteEnds(all, at, pending+1)
	}
	assert.Equal(t, len(text), at, about)
	return looked
}

// spoken is what stands at a place of a stream.
func spoken(all []*said, at int) *said {
	for _, s := range all {
		if at < len(s.text) {
			return s
		}
		at -= len(s.text)
	}
	return nil
}

// noteEnds: a segment goes with the first message that ends in it.
func (p *dnsPlay) noteEnds(all []*said, at int, pending uint64) uint64 {
	for _, s := range all {
		if at -= len(s.text); at < 0 {
			break
		}
		if _, ok := p.events[s]; !ok {
			p.events[s], pending = pending, 0
		}
	}
	return pending
}

// disordered are the records as if segments had overtaken each other, and some had come twice: as many as repeats.
func (p *dnsPlay) disordered(t testing.TB) (records [][]byte, repeats uint64) {
	t.Helper()
	const most = 8 // segments that change their places with each other
	random := rand.New(rand.NewPCG(p.seed, 54))
	begun := map[uint64]int{}
	for rest := p.records; len(rest) > 0; {
		first, _ := decodeDNSRecord(t, rest[0])
		direction := first.Socket<<1 | uint64(first.Flags&event.DNSSent)
		if begun[direction]++; begun[direction] == 1 || first.Ends.Protocol == event.ProtocolUDP { // what was before the first is not known
			records, rest = append(records, rest[0]), rest[1:]
			continue
		}
		run := 1
		for run < min(most, len(rest)) && p.isSameRun(t, rest[0], rest[run]) {
			run++
		}
		shuffled := slices.Clone(rest[:run])
		random.Shuffle(run, func(i, j int) { shuffled[i], shuffled[j] = shuffled[j], shuffled[i] })
		for i, record := range shuffled {
			for range 1 + random.IntN(20)/19 {
				records = append(records, atTimeOf(record, rest[i]))
			}
		}
		rest = rest[run:]
	}
	return records, uint64(len(records) - len(p.records))
}

func (p *dnsPlay) isSameRun(t testing.TB, record, other []byte) bool {
	t.Helper()
	a, _ := decodeDNSRecord(t, record)
	b, _ := decodeDNSRecord(t, other)
	hasWaited := b.Header.Time-a.Header.Time > uint64(drawnTimeout)/2
	return a.Socket == b.Socket && a.Flags == b.Flags && !hasWaited
}

// atTimeOf another is a record that has come in its place.
func atTimeOf(record, other []byte) []byte {
	moved, now := eventtest.Aligned(record), eventtest.Aligned(other)
	header, _ := event.DecodeHeader(moved)
	before, _ := event.DecodeHeader(now)
	header.Time = before.Time
	return moved
}

// --- what is told ----------------------------------------------------------------------------

// dnsTold is a span, or what is wanted of one.
type dnsSpan struct {
	text       string
	start, end [2]uint64 // not before, not after
	isTimeout  bool      // if it was sent once, it lasts exactly as long
}

type dnsTold struct {
	spans, failures []dnsSpan
	lookups         map[string]uint64 // by name and error
	counts          map[string]uint64 // of resolvers
	ledger          ledger.Row
}

type wantedOfDNS struct{ dnsTold }

func (w *wantedOfDNS) add(other wantedOfDNS) {
	w.spans, w.failures = append(w.spans, other.spans...), append(w.failures, other.failures...)
	if w.lookups == nil {
		w.lookups, w.counts, w.ledger.Lost = map[string]uint64{}, map[string]uint64{}, map[string]uint64{}
	}
	for key, n := range other.lookups {
		w.lookups[key] += n
	}
	for key, n := range other.counts {
		w.counts[key] += n
	}
	for key, n := range other.ledger.Lost {
		w.ledger.Lost[key] += n
	}
	w.ledger.Seen += other.ledger.Seen
	w.ledger.Exported += other.ledger.Exported
	w.ledger.Aggregated += other.ledger.Aggregated
	w.ledger.Filtered += other.ledger.Filtered
}

// wanted is what must be told, as the README has it.
func (p *dnsPlay) wanted() (w wantedOfDNS) {
	w.lookups, w.counts, w.ledger.Lost = map[string]uint64{}, map[string]uint64{}, map[string]uint64{}
	for _, q := range p.queries {
		p.wantQuery(&w, q)
	}
	if p.retries > 0 {
		w.counts["tapio.dns.retries"] = uint64(p.retries)
	}
	w.ledger.Aggregated = p.repeats
	w.ledger.Seen = p.repeats
	for _, s := range p.said {
		n := p.events[s]
		w.ledger.Seen += n
		switch s.fate {
		case inQuery:
			w.ledger.Exported += n
		case isUnmatched:
			w.ledger.Aggregated += n
			w.counts["tapio.dns.unmatched_answers"]++
		case isNoClients:
			w.ledger.Filtered += n
		case isNoneAtAll:
			if n > 0 {
				w.ledger.Lost["undecodable"] += n
			}
		}
	}
	return w
}

func (p *dnsPlay) wantQuery(w *wantedOfDNS, q *toldQuery) {
	server := netip.MustParseAddrPort(p.script.Servers[q.server])
	attributes := map[string]any{
		"process.pid": int64(p.pid), "dns.question.name": nameText(q.question.name), "tapio.dns.question.type": drawnTypes[q.question.kind],
		"network.transport": p.script.Sockets[q.client].Network, "network.type": "ipv6", "network.peer.address": server.Addr().String(),
		"network.peer.port": int64(server.Port()), "server.address": server.Addr().String(), "server.port": int64(server.Port()),
	}
	if server.Addr().Is4() {
		attributes["network.type"] = "ipv4"
	}
	if q.opcode != 0 {
		attributes["tapio.dns.opcode"] = drawnOpcodes[q.opcode]
	}
	if q.retries > 0 {
		attributes["tapio.dns.retries"] = int64(q.retries)
	}
	failure := q.describeAnswer(attributes)
	span := dnsSpan{start: p.Times[q.start], isTimeout: q.answer == nil && q.retries == 0}
	if q.answer != nil {
		span.end = p.Times[q.end]
	} else {
		sent := p.Times[q.sent]
		span.end = [2]uint64{sent[0] + uint64(drawnTimeout), sent[1] + uint64(drawnTimeout)}
	}
	status := ptrace.StatusCodeUnset
	if failure != "" {
		status = ptrace.StatusCodeError
		log := span
		log.text, log.start = attributesText(attributes), [2]uint64{0, ^uint64(0)}
		w.failures = append(w.failures, log)
	}
	span.text = fmt.Sprintf("dns.query %s %s %s", ptrace.SpanKindClient, status, attributesText(attributes))
	w.spans = append(w.spans, span)
	if q.opcode == 0 {
		w.lookups[strings.ToLower(nameText(q.question.name))+" "+failure]++
	}
}

func (q *toldQuery) describeAnswer(attributes map[string]any) (failure string) {
	if q.answer == nil {
		attributes["error.type"] = "timeout"
		return "timeout"
	}
	code := drawnCodes[q.answer.code]
	attributes["tapio.dns.response_code"] = code
	if q.answer.truncated {
		attributes["tapio.dns.truncated"] = true
	}
	if len(q.answer.answers) > 0 {
		var answers []any
		for _, a := range q.answer.answers {
			answers = append(answers, a)
		}
		attributes["dns.answers"] = answers
	}
	if q.answer.code == 0 {
		return ""
	}
	attributes["error.type"] = code
	return code
}

func attributesText(attributes map[string]any) string {
	var all []string
	for _, name := range slices.Sorted(maps.Keys(attributes)) {
		all = append(all, fmt.Sprintf("%s=%#v", name, attributes[name]))
	}
	return strings.Join(all, " ")
}

// dnsTranslator is what follows the source.
type dnsTranslator struct {
	*translate.Translator
	account *ledger.Ledger
	last    uint64
}

type nobodyIsKnown struct{}

func (nobodyIsKnown) Process(uint32) (source.Process, bool) { return source.Process{}, false }
func (nobodyIsKnown) Cgroup(uint64, uint32) (string, bool)  { return "", false }

func newDNSTranslator() *dnsTranslator {
	account := &ledger.Ledger{}
	index := identity.NewIndex(identity.Options{Resolver: nobodyIsKnown{}})
	return &dnsTranslator{account: account, Translator: translate.New(translate.Options{
		Signals: translate.Signals{Traces: true, Metrics: true, Logs: true}, SeriesLimit: 1 << 20, DNSTimeout: drawnTimeout,
		Correlation: correlate.Options{MaxWait: time.Second, MaxHeld: 1 << 20},
	}, index, correlate.NewIDs(), account)}
}

func (d *dnsTranslator) handle(records [][]byte) {
	const disorder = 1e6 // ns: two CPUs hand in their records one before the other
	for _, record := range records {
		header, _ := event.DecodeHeader(record)
		d.last = max(d.last, header.Time)
		d.Tick(d.last - disorder)
		d.Handle(eventtest.Aligned(record))
	}
}

// told is all of it, long after the last record.
func (d *dnsTranslator) told(t testing.TB, seen uint64) dnsTold {
	t.Helper()
	d.Tick(d.last + uint64(2*time.Minute))
	assert.Zero(t, d.Held(), "what waits for ever")
	told := dnsTold{lookups: map[string]uint64{}, counts: map[string]uint64{}}
	if batch := d.Take(); batch != nil {
		d.account.AddCounts(&batch.Counts, ledger.Exported)
		told.read(t, batch)
	}
	if all, ok := d.Metrics(pcommon.Timestamp(d.last)); ok {
		told.readMetrics(t, all)
	}
	rows, err := d.account.Rows(func() (map[uint8]source.Counters, error) {
		return map[uint8]source.Counters{uint8(event.FamilyDNS): {Seen: seen}}, nil
	})
	require.NoError(t, err)
	told.ledger = rows[event.FamilyDNS]
	if told.ledger.Lost == nil {
		told.ledger.Lost = map[string]uint64{}
	}
	return told
}

func (d *dnsTold) read(t testing.TB, batch *translate.Batch) {
	t.Helper()
	for _, resource := range batch.Traces.ResourceSpans().All() {
		for _, s := range resource.ScopeSpans().At(0).Spans().All() {
			start, end := uint64(s.StartTimestamp()), uint64(s.EndTimestamp())
			text := fmt.Sprintf("%s %s %s %s", s.Name(), s.Kind(), s.Status().Code(), attributesText(s.Attributes().AsRaw()))
			d.spans = append(d.spans, dnsSpan{text: text, start: [2]uint64{start, start}, end: [2]uint64{end, end}})
		}
	}
	for _, resource := range batch.Logs.ResourceLogs().All() {
		for _, l := range resource.ScopeLogs().At(0).LogRecords().All() {
			assert.Equal(t, "tapio.dns.failure", l.EventName())
			at := uint64(l.Timestamp())
			d.failures = append(d.failures, dnsSpan{text: attributesText(l.Attributes().AsRaw()), start: [2]uint64{at, at}, end: [2]uint64{at, at}})
		}
	}
}

func (d *dnsTold) readMetrics(t testing.TB, all pmetric.Metrics) {
	t.Helper()
	for _, resource := range all.ResourceMetrics().All() {
		for _, m := range resource.ScopeMetrics().At(0).Metrics().All() {
			if m.Type() == pmetric.MetricTypeSum {
				for _, point := range m.Sum().DataPoints().All() {
					d.counts[m.Name()] += uint64(point.IntValue())
				}
				continue
			}
			assert.Equal(t, "dns.lookup.duration", m.Name())
			for _, point := range m.Histogram().DataPoints().All() {
				name, _ := point.Attributes().Get("dns.question.name")
				failure := ""
				if value, ok := point.Attributes().Get("error.type"); ok {
					failure = value.Str()
				}
				d.lookups[name.Str()+" "+failure] += point.Count()
			}
		}
	}
}

// --- comparison ------------------------------------------------------------------------------

func (p *dnsPlay) assertTold(t testing.TB, want wantedOfDNS, told dnsTold) {
	t.Helper()
	about := fmt.Sprintf("seed %d", p.seed)
	if !want.assertEqual(t, about, told) {
		return
	}
	for i, w := range want.spans {
		got := told.spans[i]
		assert.True(t, isWithin(got.start, w.start), "%s: %d is not in %v, where begins %s", about, got.start[0], w.start, w.text)
		assert.True(t, isWithin(got.end, w.end), "%s: %d is not in %v, where ends %s", about, got.end[0], w.end, w.text)
		if w.isTimeout {
			assert.EqualValues(t, drawnTimeout, got.end[0]-got.start[0], "%s: %s", about, w.text)
		}
	}
}

// assertToldInDisorder what is told in order; but not where messages were looked for, as that takes segments that are whole ones.
func (p *dnsPlay) assertToldInDisorder(t testing.TB, want wantedOfDNS) {
	t.Helper()
	if p.hasLost {
		return
	}
	records, repeats := p.disordered(t)
	want.ledger.Seen += repeats
	want.ledger.Aggregated += repeats
	other := newDNSTranslator()
	other.handle(records)
	want.assertEqual(t, fmt.Sprintf("seed %d in disorder", p.seed), other.told(t, uint64(len(records))))
}

func isWithin(got, want [2]uint64) bool { return got[0] >= want[0] && got[1] <= want[1] }

func (w *wantedOfDNS) assertEqual(t testing.TB, about string, told dnsTold) bool {
	t.Helper()
	good := assertSameTexts(t, sortedTexts(w.spans), sortedTexts(told.spans), about+": spans")
	good = assertSameTexts(t, sortedTexts(w.failures), sortedTexts(told.failures), about+": failures") && good
	good = assert.Equal(t, w.lookups, told.lookups, "%s: metrics of lookups", about) && good
	good = assert.Equal(t, w.counts, told.counts, "%s: metrics of resolvers", about) && good
	return assert.Equal(t, w.ledger, told.ledger, "%s: the ledger", about) && good
}

// assertSameTexts says only what differs.
func assertSameTexts(t testing.TB, want, told []string, about string) bool {
	t.Helper()
	missing, more := without(want, told), without(told, want)
	return assert.Empty(t, missing, "%s that are missing", about) && assert.Empty(t, more, "%s that are too many", about)
}

// without each of those others, once.
func without(texts, others []string) []string {
	rest := slices.Clone(texts)
	for _, other := range others {
		if i := slices.Index(rest, other); i >= 0 {
			rest = slices.Delete(rest, i, i+1)
		}
	}
	return rest
}

// sortedTexts of spans, which are in this order then; those that read the same are in that of their start.
func sortedTexts(spans []dnsSpan) (texts []string) {
	slices.SortStableFunc(spans, func(a, b dnsSpan) int {
		if order := strings.Compare(a.text, b.text); order != 0 {
			return order
		}
		return int(int64(a.start[0] - b.start[0]))
	})
	for _, s := range spans {
		texts = append(texts, s.text)
	}
	return texts
}
