// Copyright The otelcol-tapio Authors
// SPDX-License-Identifier: Apache-2.0

//go:build linux && (amd64 || arm64)

package kernel

import (
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"strconv"
	"testing"
	"time"

	"github.com/cilium/ebpf/link"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/tapio-io/otelcol-tapio/receiver/tapioebpfreceiver/internal/event"
	"github.com/tapio-io/otelcol-tapio/receiver/tapioebpfreceiver/internal/source"
)

func init() {
	workloads["churn"] = churnWorkload
	workloads["chatter"] = chatterWorkload
}

const churners = 16

// churnWorkload has clients that ask a server until its input ends: each time on a new connection, on connections that are kept
// ("keep"), or on new ones with TLS ("tls").
func churnWorkload(args []string) error {
	server := httptest.NewUnstartedServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		time.Sleep(time.Millisecond)
		_, _ = io.WriteString(w, "hello")
	}))
	if args[0] == "tls" {
		server.StartTLS()
	} else {
		server.Start()
	}
	transport := server.Client().Transport.(*http.Transport)
	transport.DisableKeepAlives, transport.MaxIdleConnsPerHost = args[0] != "keep", churners
	for range churners {
		go func() {
			for {
				if response, err := server.Client().Get(server.URL); err == nil {
					_, _ = io.Copy(io.Discard, response.Body)
					_ = response.Body.Close()
				}
			}
		}()
	}
	fmt.Println("ready")
	return untilEndOfInput()
}

// TestBeginningAndEndAreNoLoss: what is under way when the programs are attached or detached was not lost, and tells of nothing
// that did not happen.
func TestBeginningAndEndAreNoLoss(t *testing.T) {
	for _, kind := range []string{"close", "keep", "tls"} {
		t.Run(kind, func(t *testing.T) {
			requireBPF(t)
			cgroup := newCgroup(t, "")
			churn := startTalker(t, workloadIn(t, cgroup, "churn", kind))
			require.Equal(t, "ready", churn.hear())
			options := defaultOptions()
			withHTTP(&options)
			family, of := event.FamilyHTTP, event.TypeHTTPExchange
			if kind == "tls" {
				family, of = event.FamilyNetwork, event.TypeTLSHandshake
				options.Families, options.TLSHandshakes = []string{familyNetwork}, true
			}
			const enough = 300
			options.Cgroups, options.RingSize = []string{scopeOf(t, cgroup)}, 32<<20
			for range 2 {
				w := openWorld(t, cgroup, options)
				go w.read()
				w.await(of, enough)
				w.finish()
				counters := w.counters()[uint8(family)]
				assert.Zero(t, counters.Unreadable)
				assert.Zero(t, counters.TableFull)
				assert.Empty(t, w.cut())
			}
			churn.end()
		})
	}
}

// cut are the errors of exchanges and handshakes, by how many had them.
func (w *world) cut() map[string]int {
	errors := map[string]int{}
	for _, record := range w.ofType(event.TypeHTTPExchange) {
		e, err := event.DecodeHTTPExchange(record)
		require.NoError(w.t, err)
		errors[e.CutBy()]++
	}
	for _, record := range w.ofType(event.TypeTLSHandshake) {
		e, err := event.DecodeTLSHandshake(record)
		require.NoError(w.t, err)
		errors[e.ErrorType()]++
	}
	delete(errors, "")
	return errors
}

// chatterWorkload sends and receives 10 bytes again and again until there is a line of input, and as many as that says then.
func chatterWorkload(args []string) error {
	connection, err := net.Dial("tcp", args[0])
	if err != nil {
		return err
	}
	defer connection.Close()
	fmt.Println("ready")
	last := make(chan int)
	go func() {
		var size int
		_, _ = fmt.Scanln(&size)
		last <- size
	}()
	for size, over := 10, false; !over; {
		select {
		case size = <-last:
			over = true
		default:
		}
		message := make([]byte, size)
		if _, err := connection.Write(message); err != nil {
			return err
		}
		if _, err := io.ReadFull(connection, message); err != nil {
			return err
		}
	}
	fmt.Println("done")
	return nil
}

// TestConnectionThatTalksMeanwhile: one that sends and receives while the programs are attached is followed as well.
func TestConnectionThatTalksMeanwhile(t *testing.T) {
	before := newWorld(t, func(o *Options) { withHTTP(o); o.Families = []string{familyNetwork, familyHTTP} })
	server := startTalker(t, before.workload("echo", "127.0.0.1:0"))
	client := startTalker(t, before.workload("chatter", server.hear()))
	client.hear()
	w := before.another()
	client.say("24000")
	client.end()
	all := decodeStats(t, w.await(event.TypeConnectionClose, 2))
	require.Len(t, all, 2)
	for _, e := range all {
		assert.GreaterOrEqual(t, e.SentBytesDelta, uint64(24000))
		assert.GreaterOrEqual(t, e.ReceivedBytesDelta, uint64(24000))
		assert.Less(t, e.SentBytesDelta, e.SentBytes, "without what was before")
	}
	server.end()
}

// reportsTo a peer are what each says that was sent since the one before.
func (w *world) reportsTo(address string) (deltas []uint64) {
	w.t.Helper()
	for _, e := range decodeStats(w.t, w.ofType(event.TypeConnectionReport)) {
		if peer(&e.Ends) == address {
			deltas = append(deltas, e.SentBytesDelta)
		}
	}
	return deltas
}

// TestTheLastReport: of what lasts when the programs are detached is said what was not said before.
func TestTheLastReport(t *testing.T) {
	w := newOwnWorld(t, nil)
	server := startTalker(t, w.workload("echo", "127.0.0.1:0"))
	address := server.hear()
	talking, silent := startTalker(t, w.workload("converse", address)), startTalker(t, w.workload("converse", address))
	for _, client := range []*talker{talking, silent} {
		client.hear()
		client.say("1000")
	}
	require.NoError(t, w.source.setWatch(w.source.Boot())) // so that all are due, as after an interval
	w.source.runReports()
	require.NoError(t, w.source.setWatch(watching))
	w.await(event.TypeConnectionReport, 4)
	talking.say("24")
	fresh := startTalker(t, w.workload("converse", address))
	fresh.hear()
	udp := startTalker(t, w.workload("udp-echo", "127.0.0.1:0"))
	to := udp.hear()
	flow := startTalker(t, w.workload("udp-ask", to, "100"))
	flow.hear()
	w.finish()
	assert.ElementsMatch(t, []uint64{1000, 1000, 24, 0}, w.reportsTo(address), "of what is silent nothing is to be said; one that is new is told")
	assert.Equal(t, []uint64{100}, w.reportsTo(to))
	assert.Empty(t, w.ofType(event.TypeConnectionClose), "none has ended")
	for _, k := range []*talker{talking, silent, fresh, server, flow, udp} {
		k.end()
	}
}

// TestTheLastReportsOfMany: what the ring has no room for comes in the next round, and was not lost.
func TestTheLastReportsOfMany(t *testing.T) {
	const connections = 1000
	w := newOwnWorld(t, func(o *Options) { o.RingSize = 64 << 10 })
	hold := startTalker(t, w.workload("hold", strconv.Itoa(connections)))
	hold.hear()
	w.await(event.TypeConnectionConnect, connections)
	w.finish()
	assert.Len(t, w.ofType(event.TypeConnectionReport), 2*connections)
	assert.Equal(t, source.Counters{Seen: 3 * connections}, w.counters()[uint8(event.FamilyNetwork)])
	hold.end()
}

// TestConnectionsThatEndAfterTheWatch: the kernel has counted what they carried.
func TestConnectionsThatEndAfterTheWatch(t *testing.T) {
	w := newOwnWorld(t, nil)
	server := startTalker(t, w.workload("echo", "127.0.0.1:0"))
	address := server.hear()
	client := startTalker(t, w.workload("converse", address))
	client.hear()
	client.say("1000")
	require.NoError(t, w.source.setWatch(w.source.Boot()))
	client.say("24")
	late := startTalker(t, w.workload("converse", address))
	late.hear()
	late.end()
	client.end()
	for _, e := range decodeStats(t, w.await(event.TypeConnectionClose, 2)) {
		assert.EqualValues(t, 1024, e.SentBytesDelta)
		assert.EqualValues(t, 1024, e.ReceivedBytesDelta)
	}
	w.finish()
	assert.Len(t, w.ofType(event.TypeConnectionClose), 2, "one that began after it is not followed")
	assert.Len(t, w.ofType(event.TypeConnectionConnect), 1)
	server.end()
}

// slowLink is at a hook that takes a moment to be left.
type slowLink struct{ link.Link }

func (slowLink) Close() error {
	time.Sleep(20 * time.Millisecond)
	return nil
}

// TestStopOfWhatNeverStarted: a start may fail anywhere.
func TestStopOfWhatNeverStarted(t *testing.T) {
	s := &Source{stopReports: make(chan struct{}), links: []attachment{{Link: slowLink{}}}}
	require.NoError(t, s.Stop(func([]byte) { t.Error("a record") }))
	require.NoError(t, s.Stop(nil), "once more")
}
