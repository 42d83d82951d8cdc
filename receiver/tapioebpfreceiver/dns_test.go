// Copyright The otelcol-tapio Authors
// SPDX-License-Identifier: Apache-2.0

package tapioebpfreceiver

import (
	"context"
	"slices"
	"sync/atomic"
	"testing"
	"time"
	"unsafe"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"go.opentelemetry.io/collector/component"
	"go.opentelemetry.io/collector/config/configoptional"
	"go.opentelemetry.io/collector/consumer/consumertest"
	"go.opentelemetry.io/collector/receiver"
	"go.opentelemetry.io/collector/receiver/receivertest"

	"github.com/tapio-io/otelcol-tapio/bpf"
	"github.com/tapio-io/otelcol-tapio/receiver/tapioebpfreceiver/internal/metadata"
	"github.com/tapio-io/otelcol-tapio/receiver/tapioebpfreceiver/internal/source"
)

// dnsSource counts its records as those of DNS. Its clock may stand still: then the machine
// takes no time.
type dnsSource struct {
	fakeSource
	stands      atomic.Uint64 // at this time; 0: it goes
	readStopped atomic.Int64  // how often it was read when it was stopped already
}

func (s *dnsSource) Boot() uint64 {
	if now := s.stands.Load(); now > 0 {
		return now
	}
	return s.fakeSource.Boot()
}

func (s *dnsSource) Read(handle func([]byte)) error {
	if s.wasStopped() {
		s.readStopped.Add(1)
	}
	return s.fakeSource.Read(handle)
}

func (s *dnsSource) Counters() (map[uint8]source.Counters, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return map[uint8]source.Counters{uint8(bpf.WireEventFamilyFAMILY_DNS): {Seen: s.seen}}, nil
}

// send makes a message of a socket, for the address of "a", be seen now.
func (s *dnsSource) send(socket uint64, sent bool, message string) {
	e := bpf.WireDnsMessage{Socket: socket, Size: uint32(len(message)), Captured: uint32(len(message))}
	e.Header = bpf.WireEventHeader{Time: s.Boot(), Pid: 10, StartTime: 1, Type: uint16(bpf.WireEventTypeDNS_MESSAGE)}
	if sent {
		e.Flags = uint32(bpf.WireDnsFlagsDNS_SENT)
	}
	fixed := unsafe.Slice((*byte)(unsafe.Pointer(&e)), unsafe.Sizeof(e))
	s.mu.Lock()
	defer s.mu.Unlock()
	s.seen++
	s.waiting = append(s.waiting, append(slices.Clone(fixed), message...))
}

const (
	queryForA    = "\x00\x01\x01\x00\x00\x01\x00\x00\x00\x00\x00\x00\x01a\x00\x00\x01\x00\x01"
	thereIsNoA   = "\x00\x01\x81\x83\x00\x01\x00\x00\x00\x00\x00\x00\x01a\x00\x00\x01\x00\x01"
	answerIsSlow = 300 * time.Millisecond
)

func startDNS(t *testing.T, spans *consumertest.TracesSink) (*dnsSource, *tapioReceiver) {
	t.Helper()
	cfg := createDefaultConfig().(*Config)
	cfg.Batch.Timeout = time.Millisecond
	cfg.Families.DNS = configoptional.Some(DNSConfig{Ports: []int{53}, Timeout: answerIsSlow})
	created, err := NewFactory().CreateTraces(t.Context(), receivertest.NewNopSettings(metadata.Type), cfg, spans)
	require.NoError(t, err)
	r, s := created.(*tapioReceiver), &dnsSource{}
	r.openSource = func(*Config, receiver.Settings) (source.Source, error) { return s, nil }
	require.NoError(t, r.Start(t.Context(), &statusHost{extensions: map[component.ID]component.Component{}}))
	t.Cleanup(func() { require.NoError(t, r.Shutdown(context.Background())) })
	return s, r
}

func TestAQueryIsInFlightUntilItsEnd(t *testing.T) {
	spans := &consumertest.TracesSink{}
	s, r := startDNS(t, spans)
	began := s.Boot()
	s.stands.Store(began)
	s.send(1, true, queryForA)
	s.stands.Store(began + uint64(answerIsSlow) - 1)
	require.Never(t, func() bool { return spans.SpanCount() > 0 }, answerIsSlow/3, time.Millisecond)
	assert.Equal(t, LedgerRow{Seen: 1, InFlight: 1, Lost: map[string]uint64{}}, r.stats().Ledger["dns"])
	comesTo := func(n int) func() bool {
		return func() bool {
			s.stands.Add(uint64(time.Millisecond))
			return spans.SpanCount() == n
		}
	}
	require.Eventually(t, comesTo(1), patience, time.Millisecond, "it times out")
	s.send(2, true, queryForA)
	s.send(2, false, thereIsNoA)
	require.Eventually(t, comesTo(2), patience, time.Millisecond, "nothing follows")
	require.Eventually(t, func() bool { return r.stats().Ledger["dns"].Exported == 3 }, patience, time.Millisecond)
}

// TestAClockThatIsSet: what waits does not wait longer or shorter, and takes as long as it took. Of when it was the
// clock says so, as soon as it is measured again.
func TestAClockThatIsSet(t *testing.T) {
	for _, step := range []time.Duration{100 * time.Hour, -100 * time.Hour, -40 * 365 * 24 * time.Hour} {
		t.Run(step.String(), func(t *testing.T) {
			t.Parallel()
			spans := &consumertest.TracesSink{}
			s, r := startDNS(t, spans)
			began := time.Now()
			s.send(1, true, queryForA)
			require.Eventually(t, func() bool { return r.stats().Ledger["dns"].Seen == 1 }, patience, time.Millisecond)
			s.clockSet.Store(int64(step))
			require.Eventually(t, func() bool { return spans.SpanCount() == 1 }, patience, time.Millisecond, "it times out")
			assert.GreaterOrEqual(t, time.Since(began), answerIsSlow, "it has time until then")
			span := spans.AllTraces()[0].ResourceSpans().At(0).ScopeSpans().At(0).Spans().At(0)
			assert.Equal(t, answerIsSlow, span.EndTimestamp().AsTime().Sub(span.StartTimestamp().AsTime()))

			before := s.measured.Load() // one that is under way may have asked before
			require.Eventually(t, func() bool { return s.measured.Load() > before+1 }, patience, time.Millisecond)
			sent := time.Now()
			s.send(2, true, queryForA)
			require.Eventually(t, func() bool { return spans.SpanCount() == 2 }, patience, time.Millisecond)
			span = spans.AllTraces()[1].ResourceSpans().At(0).ScopeSpans().At(0).Spans().At(0)
			assert.WithinRange(t, span.StartTimestamp().AsTime(), sent.Add(step), time.Now().Add(step))
		})
	}
}

func TestWhatWaitsAtTheShutdown(t *testing.T) {
	spans := &consumertest.TracesSink{}
	s, r := startDNS(t, spans)
	s.stands.Store(s.Boot())
	s.send(1, true, queryForA) // not answered
	s.send(2, true, queryForA)
	s.send(2, false, thereIsNoA) // something may follow
	require.NoError(t, r.Shutdown(context.Background()))
	assert.EqualValues(t, 1, s.readStopped.Load(), "nothing is waited for")
	assert.Equal(t, 1, spans.SpanCount())
	rows, err := r.ledger.Rows(s.Counters)
	require.NoError(t, err)
	row := rows[3]
	assert.Equal(t, LedgerRow{Seen: 3, Exported: 2, Lost: map[string]uint64{"shutdown": 1}}, ledgerRow(row))
}
