// Copyright The otelcol-tapio Authors
// SPDX-License-Identifier: Apache-2.0

//go:build linux && (amd64 || arm64)

package kernel

import (
	"crypto/tls"
	"encoding/json"
	"os/exec"
	"slices"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/tapio-io/otelcol-tapio/bpf"
	"github.com/tapio-io/otelcol-tapio/receiver/tapioebpfreceiver/internal/event"
	tlshello "github.com/tapio-io/otelcol-tapio/receiver/tapioebpfreceiver/internal/protocol/tls"
)

// withTLSLimit has hardly any handshake told.
func withTLSLimit(o *Options) {
	withTLS(o)
	o.RateLimits = map[string]uint64{familyNetwork: 1}
}

// handshakeKey is what handshakes have in common whose sums are one, as metrics have it.
type handshakeKey struct {
	isServer                 bool
	protocol, version, error string
}

// tlsSums are the records of the world's cgroup so far.
func (w *world) tlsSums() (found []event.TLSSum) {
	w.t.Helper()
	id, ok := cgroupID(w.cgroup)
	require.True(w.t, ok)
	for _, record := range w.ofType(event.TypeTLSSum) {
		e, err := event.DecodeTLSSum(record)
		require.NoError(w.t, err)
		if e.Header.CgroupId == id {
			assert.Equal(w.t, e.Key.Pid, e.Header.Pid)
			assert.Equal(w.t, e.Key.StartTime, e.Header.StartTime)
			found = append(found, e)
		}
	}
	return found
}

// shaken are the handshakes of a world, those that were told and those that were summed up.
func (w *world) shaken() (all map[handshakeKey]uint64, summed uint64) {
	w.t.Helper()
	all = map[handshakeKey]uint64{}
	for _, record := range w.ofType(event.TypeTLSHandshake) {
		e, err := event.DecodeTLSHandshake(record)
		require.NoError(w.t, err)
		key := handshakeKey{isServer: e.IsServer(), error: e.ErrorType()}
		key.protocol, key.version = tlshello.VersionOf(tlshello.ReadServerHello(e.ServerHello).Version)
		all[key]++
	}
	for _, e := range w.tlsSums() {
		key := handshakeKey{isServer: e.Key.Role == event.RoleServer, error: e.ErrorType()}
		key.protocol, key.version = tlshello.VersionOf(e.Key.Version)
		all[key] += e.Events()
		summed += e.Events()
	}
	return all, summed
}

// partsOfAnswers are as far as a server came before it closed the connection, and answers that name other versions.
func partsOfAnswers() (parts []string) {
	const behindRandom = 5 + 38 // from where on each byte matters
	for _, answer := range []string{plainAnswer, answer13} {
		parts = append(parts, answer[:9], answer[:20])
		for end := behindRandom; end <= len(answer); end++ {
			parts = append(parts, answer[:end])
		}
	}
	hello := func(versions, extensions string) string {
		body := versions + "ssssssssssssssssssssssssssssssss" + "\x00\x13\x01\x00" + extensions
		return "\x16\x03\x03\x00" + string(rune(len(body)+4)) + "\x02\x00\x00" + string(rune(len(body))) + body
	}
	const unknown = "\x00\x10\x00\x02hi"
	return append(parts,
		hello("\x03\x00", ""), hello("\x03\x01", ""), hello("\x03\x02", ""), hello("\x03\x05", ""), hello("\x02\x00", ""), hello("\x03\x04", ""),
		hello("\x03\x03", "\x00\x06"+unknown), hello("\x03\x03", "\x00\x05"+unknown), hello("\x03\x03", "\x00\x00"), hello("\x03\x03", "\x00"),
		hello("\x03\x03", "\x00\x0c"+unknown+"\x00\x2b\x00\x02\x03\x04"), hello("\x03\x03", "\x00\x0c"+unknown+"\x00\x2b\x00\x02\x03\x03"),
		hello("\x03\x03", "\x00\x06\x00\x2b\x00\x02\x7f\x1c"), hello("\x03\x03", "\x00\x05\x00\x2b\x00\x01\x03"), hello("\x03\x03", "\x00\x06\x00\x2b\x00\x04\x03\x04"),
	)
}

// shakeHands in all ways, some at a time: a process that is watched for races takes a second to end.
func (w *world) shakeHands() {
	w.t.Helper()
	var commands []*exec.Cmd
	add := func(workload string, what any) {
		text, err := json.Marshal(what)
		require.NoError(w.t, err)
		commands = append(commands, w.workload(workload, string(text)))
	}
	for _, c := range establishedCases {
		add("tls", c.handshakeCase)
	}
	for _, c := range []handshakeCase{
		{Version: tls.VersionTLS12, Distrust: true}, {Distrust: true}, {Version: tls.VersionTLS12, ServerVersion: tls.VersionTLS13},
		{Version: tls.VersionTLS12, WantCertificate: true},
		{Server: "close"}, {Server: "reset"}, {Server: "silent"}, {Server: "plain"}, {Server: "retry"}, {Server: "short"},
	} {
		add("tls", c)
	}
	for _, answer := range partsOfAnswers() {
		add("script", script{Address: "127.0.0.1:0", Steps: []step{client(plainHello), {By: "server", Send: answer, Do: "close"}}})
	}
	for some := range slices.Chunk(commands, 8) {
		for _, command := range some {
			require.NoError(w.t, command.Start())
		}
		for _, command := range some {
			assert.NoError(w.t, command.Wait())
		}
	}
}

// TestHandshakesBeyondTheLimitAreSummedUp: with those that are told they are what they are without a limit.
func TestHandshakesBeyondTheLimitAreSummedUp(t *testing.T) {
	shakeIn := func(options func(*Options)) (all map[handshakeKey]uint64, summed uint64) {
		w := newOwnWorld(t, options)
		w.shakeHands()
		w.finish()
		assert.Zero(t, w.networkCounters().Throttled+w.networkCounters().Unreadable+w.networkCounters().RingFull)
		assertHandshakeSlotsAreFree(t, w)
		for _, e := range w.tlsSums() {
			assert.NotZero(t, e.Header.Pid)
			if e.Events() == 1 {
				bucket := bucketOf(event.DurationBounds, time.Duration(e.Sums.Duration).Seconds())
				assert.EqualValues(t, 1, e.Sums.Durations[bucket], "%s: %v", time.Duration(e.Sums.Duration), e.Sums.Durations)
			}
		}
		return w.shaken()
	}
	want, none := shakeIn(withTLS)
	assert.Zero(t, none)
	began := time.Now()
	got, summed := shakeIn(withTLSLimit)
	t.Logf("in %s, %d handshakes are summed up, by %d keys", time.Since(began), summed, len(got))
	assert.Equal(t, want, got)
	assert.Greater(t, len(got), 20)
	var all uint64
	for _, count := range got {
		all += count
	}
	assert.LessOrEqual(t, float64(all-summed), time.Since(began).Seconds()+1+16, "some more where CPUs meet")
}

// TestDurationsOfSummedHandshakes are from the ClientHello on, as the client sees it.
func TestDurationsOfSummedHandshakes(t *testing.T) {
	for tries := 0; checkDurationsOfSummed(t) == 0; tries++ {
		require.Less(t, tries, 10, "where a second is over between them, each is told")
	}
}

// checkDurationsOfSummed says how many of a client's handshakes were summed up.
func checkDurationsOfSummed(t *testing.T) (events uint64) {
	const pause = 300 * time.Millisecond
	w := newOwnWorld(t, withTLSLimit)
	_, truths := w.talkTLS(handshakeCase{Slow: pause, Times: 4})
	w.finish()
	var slow uint64
	var took, most time.Duration
	for _, e := range w.tlsSums() {
		if e.Key.Role == event.RoleServer {
			continue
		}
		events += e.Events()
		took += time.Duration(e.Sums.Duration)
		for i, count := range e.Sums.Durations {
			if i > bucketOf(event.DurationBounds, pause.Seconds())-1 {
				slow += count
			}
		}
	}
	for _, truth := range truths {
		most += truth.Took
	}
	assert.Equal(t, events, slow)
	assert.GreaterOrEqual(t, took, time.Duration(events)*pause)
	assert.LessOrEqual(t, took, most)
	return events
}

func (w *world) fillTLSSums(name string, left uint32) {
	fill[bpf.WireTlsSumKey, bpf.WireTlsSums](w.t, w, name, left, func(n uint32) bpf.WireTlsSumKey {
		return bpf.WireTlsSumKey{CgroupId: 1 << 40, Pid: n, Role: event.RoleServer}
	})
}

// TestWithoutRoomForSumsHandshakesAreThoseOfTheirCgroup: which process it was is not known any more; all else is.
func TestWithoutRoomForSumsHandshakesAreThoseOfTheirCgroup(t *testing.T) {
	const processes, times = 3, 4
	w := newUnreadWorld(t, withTLSLimit) // reading makes room
	close(w.done)
	w.fillTLSSums("tls_sums", 1)
	for range processes {
		w.talkTLS(handshakeCase{Times: times, Version: tls.VersionTLS12})
	}
	w.finish()
	all, summed := w.shaken()
	assert.Equal(t, map[handshakeKey]uint64{
		{false, "tls", "1.2", ""}: processes * times, {true, "tls", "1.2", ""}: processes * times,
	}, all)
	var precise, others uint64
	for _, e := range w.tlsSums() {
		if e.Header.Pid != 0 {
			precise++
			continue
		}
		others += e.Events()
	}
	assert.EqualValues(t, 1, precise, "as many as there was room for")
	assert.Positive(t, others)
	assert.Less(t, others, summed)
	assert.Zero(t, w.networkCounters().Throttled, "they are not lost")
}

// TestWithoutRoomForSumsHandshakesAreThrottled, and that is counted.
func TestWithoutRoomForSumsHandshakesAreThrottled(t *testing.T) {
	const times = 10
	w := newUnreadWorld(t, withTLSLimit)
	close(w.done)
	w.fillTLSSums("tls_sums", 0)
	w.fillTLSSums("tls_cgroup_sums", 0)
	w.talkTLS(handshakeCase{Times: times})
	w.finish()
	all, summed := w.shaken()
	assert.Zero(t, summed)
	var told uint64
	for _, count := range all {
		told += count
	}
	assert.EqualValues(t, 2*times, told+w.networkCounters().Throttled)
	assert.Positive(t, w.networkCounters().Throttled)
}
