// Copyright The otelcol-tapio Authors
// SPDX-License-Identifier: Apache-2.0

//go:build linux && (amd64 || arm64)

package kernel

import (
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/tapio-io/otelcol-tapio/receiver/tapioebpfreceiver/internal/event"
)

func init() {
	workloads["churn"] = churnWorkload
}

// churnWorkload has 16 clients that ask a server, each time on a new connection, until its input ends.
func churnWorkload([]string) error {
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		time.Sleep(time.Millisecond)
		_, _ = io.WriteString(w, "hello")
	}))
	client := &http.Client{Transport: &http.Transport{DisableKeepAlives: true}}
	for range 16 {
		go func() {
			for {
				if response, err := client.Get(server.URL); err == nil {
					_, _ = io.Copy(io.Discard, response.Body)
					_ = response.Body.Close()
				}
			}
		}()
	}
	fmt.Println("ready")
	return untilEndOfInput()
}

// TestStoppingIsNoLoss: exchanges that are under way when the programs are detached were not lost, they have not ended.
func TestStoppingIsNoLoss(t *testing.T) {
	for range 2 {
		w := newOwnWorld(t, withHTTP)
		churn := startTalker(t, w.workload("churn"))
		require.Equal(t, "ready", churn.hear())
		w.await(event.TypeHTTPExchange, 100)
		w.finish()
		churn.end()
		assert.Zero(t, w.counters()[uint8(event.FamilyHTTP)].Unreadable)
	}
}
