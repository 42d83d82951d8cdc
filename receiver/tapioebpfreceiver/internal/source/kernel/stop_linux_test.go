// Copyright The otelcol-tapio Authors
// SPDX-License-Identifier: Apache-2.0

//go:build linux && (amd64 || arm64)

package kernel

import (
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/tapio-io/otelcol-tapio/receiver/tapioebpfreceiver/internal/event"
)

func init() {
	workloads["churn"] = churnWorkload
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

// TestConnectionThatTalksMeanwhile: one that sends and receives while the programs are attached is followed as well.
func TestConnectionThatTalksMeanwhile(t *testing.T) {
	before := newWorld(t, func(o *Options) { withHTTP(o); o.Families = []string{familyNetwork, familyHTTP} })
	server := startTalker(t, before.workload("echo", "127.0.0.1:0"))
	client := startTalker(t, before.workload("converse", server.hear()))
	client.hear()
	var talking sync.WaitGroup
	over := make(chan struct{})
	talking.Go(func() {
		for {
			select {
			case <-over:
				return
			default:
				client.say("10")
			}
		}
	})
	w := before.another()
	close(over)
	talking.Wait()
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

// TestTheLastReport: of what lasts when the programs are detached is said what was not said before.
func TestTheLastReport(t *testing.T) {
	w := newOwnWorld(t, nil)
	server := startTalker(t, w.workload("echo", "127.0.0.1:0"))
	client := startTalker(t, w.workload("converse", server.hear()))
	client.hear()
	client.say("1000")
	udp := startTalker(t, w.workload("udp-echo", "127.0.0.1:0"))
	flow := startTalker(t, w.workload("udp-ask", udp.hear(), "100"))
	flow.hear()
	w.finish()
	sent := map[uint8][]uint64{}
	for _, e := range decodeStats(t, w.ofType(event.TypeConnectionReport)) {
		sent[uint8(e.Ends.Protocol)] = append(sent[uint8(e.Ends.Protocol)], e.SentBytesDelta, e.ReceivedBytesDelta)
	}
	assert.Equal(t, map[uint8][]uint64{
		uint8(event.ProtocolTCP): slices.Repeat([]uint64{1000}, 4),
		uint8(event.ProtocolUDP): slices.Repeat([]uint64{100}, 4),
	}, sent)
	assert.Empty(t, w.ofType(event.TypeConnectionClose), "none has ended")
	for _, k := range []*talker{client, server, flow, udp} {
		k.end()
	}
}
