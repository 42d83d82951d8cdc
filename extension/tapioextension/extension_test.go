// Copyright The otelcol-tapio Authors
// SPDX-License-Identifier: Apache-2.0

package tapioextension

import (
	"context"
	"net"
	"net/http"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"go.opentelemetry.io/collector/component"
	"go.opentelemetry.io/collector/component/componentstatus"
	"go.opentelemetry.io/collector/component/componenttest"
	"go.opentelemetry.io/collector/config/configauth"
	"go.opentelemetry.io/collector/config/confighttp"
	"go.opentelemetry.io/collector/config/configoptional"

	"github.com/tapio-io/otelcol-tapio/receiver/tapioebpfreceiver"
)

var receiverID = component.MustNewID("tapioebpf")

func newTestExtension(endpoint string) *tapioExtension {
	cfg := createDefaultConfig().(*Config)
	cfg.NetAddr.Endpoint = endpoint
	return newExtension(cfg, componenttest.NewNopTelemetrySettings())
}

// startExtension serves at a free port until the test ends.
func startExtension(t *testing.T) *tapioExtension {
	e := newTestExtension("127.0.0.1:0")
	require.NoError(t, e.Start(t.Context(), componenttest.NewNopHost()))
	t.Cleanup(func() { assert.NoError(t, e.Shutdown(context.Background())) })
	return e
}

// statusHost keeps what is reported to it.
type statusHost struct {
	component.Host
	events chan *componentstatus.Event
}

func (h *statusHost) Report(event *componentstatus.Event) { h.events <- event }

func newStatusHost() *statusHost {
	return &statusHost{Host: componenttest.NewNopHost(), events: make(chan *componentstatus.Event, 1)}
}

func TestStartWithPortInUse(t *testing.T) {
	first := startExtension(t)
	address := first.listener.Addr().String()

	second := newTestExtension(address)
	err := second.Start(t.Context(), componenttest.NewNopHost())
	require.ErrorContains(t, err, `listen on endpoint "`+address+`": `)
	var netErr *net.OpError
	require.ErrorAs(t, err, &netErr)
	assert.Equal(t, "listen", netErr.Op)
	require.NoError(t, second.Shutdown(t.Context()))
}

func TestStartWithUnknownAuthenticator(t *testing.T) {
	e := newTestExtension("127.0.0.1:0")
	e.config.Auth = configoptional.Some(confighttp.AuthConfig{
		Config: configauth.Config{AuthenticatorID: component.MustNewID("basicauth")},
	})
	err := e.Start(t.Context(), componenttest.NewNopHost())
	require.ErrorContains(t, err, `create HTTP server: failed to resolve authenticator "basicauth"`)
	require.NoError(t, e.Shutdown(t.Context()))
}

func TestServeErrorIsFatal(t *testing.T) {
	e, host := newTestExtension("127.0.0.1:0"), newStatusHost()
	require.NoError(t, e.Start(t.Context(), host))
	require.NoError(t, e.listener.Close())

	event := <-host.events
	assert.Equal(t, componentstatus.StatusFatalError, event.Status())
	assert.ErrorContains(t, event.Err(), `serve on endpoint "127.0.0.1:0": `)
	assert.ErrorIs(t, event.Err(), net.ErrClosed)
	require.NoError(t, e.Shutdown(t.Context()))
}

func TestShutdownIsNoError(t *testing.T) {
	e, host := newTestExtension("127.0.0.1:0"), newStatusHost()
	require.NoError(t, e.Start(t.Context(), host))
	require.NoError(t, e.Shutdown(t.Context()))
	require.NoError(t, e.Shutdown(t.Context()), "twice")
	assert.Empty(t, host.events)

	_, err := net.Dial("tcp", e.listener.Addr().String())
	assert.Error(t, err)
}

// TestShutdownWhileNobodyListens: a collector that ends already takes no status any more.
func TestShutdownWhileNobodyListens(t *testing.T) {
	e, host := newTestExtension("127.0.0.1:0"), &statusHost{componenttest.NewNopHost(), make(chan *componentstatus.Event)}
	require.NoError(t, e.Start(t.Context(), host))
	require.NoError(t, e.listener.Close())
	select {
	case <-e.served:
	case <-time.After(2 * drainTimeout):
		t.Error("it waits for the collector")
	}
	require.NoError(t, e.Shutdown(t.Context()))
	<-host.events
}

func TestShutdownWithoutStart(t *testing.T) {
	e := newTestExtension("127.0.0.1:0")
	require.NoError(t, e.Shutdown(t.Context()))
	require.NoError(t, e.Shutdown(t.Context()), "twice")
}

// slowReceiver registers a receiver whose stats return only when released.
func slowReceiver(e *tapioExtension) (asked, release chan struct{}, unregister func()) {
	asked, release = make(chan struct{}), make(chan struct{})
	return asked, release, e.RegisterStats(receiverID, func() tapioebpfreceiver.Stats {
		close(asked)
		<-release
		return tapioebpfreceiver.Stats{}
	})
}

// getInBackground sends the response's code, or 0 if there was none.
func getInBackground(e *tapioExtension, path string) <-chan int {
	code := make(chan int, 1)
	go func() {
		resp, err := (&http.Client{Transport: &http.Transport{DisableKeepAlives: true}}).Get(url(e, path))
		if err != nil {
			code <- 0
			return
		}
		_ = resp.Body.Close()
		code <- resp.StatusCode
	}()
	return code
}

func assertOpen(t *testing.T, done <-chan struct{}, problem string) {
	select {
	case <-done:
		t.Error(problem)
	case <-time.After(50 * time.Millisecond):
	}
}

func TestShutdownLetsRequestsFinish(t *testing.T) {
	e := startExtension(t)
	asked, release, _ := slowReceiver(e)
	code := getInBackground(e, "/stats")
	<-asked

	stopped := make(chan struct{})
	go func() {
		assert.NoError(t, e.Shutdown(context.Background()))
		close(stopped)
	}()
	assertOpen(t, stopped, "Shutdown did not wait for the request")
	close(release)
	<-stopped
	assert.Equal(t, http.StatusOK, <-code)
}

func TestShutdownCutsRequestsOff(t *testing.T) {
	e := startExtension(t)
	asked, release, _ := slowReceiver(e)
	defer close(release)
	code := getInBackground(e, "/stats")
	<-asked

	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	assert.NoError(t, e.Shutdown(ctx))
	assert.Equal(t, 0, <-code)
}

func TestUnregisterWaitsForStats(t *testing.T) {
	e := startExtension(t)
	asked, release, unregister := slowReceiver(e)
	code := getInBackground(e, "/stats")
	<-asked

	unregistered := make(chan struct{})
	go func() {
		unregister()
		close(unregistered)
	}()
	assertOpen(t, unregistered, "unregister did not wait for stats")
	close(release)
	<-unregistered
	assert.Equal(t, http.StatusOK, <-code)
}

func TestSecondRegistrationReplacesFirst(t *testing.T) {
	var r registry
	receiver := func(source string) func() tapioebpfreceiver.Stats {
		return func() tapioebpfreceiver.Stats { return tapioebpfreceiver.Stats{Source: source} }
	}
	unregisterFirst := r.RegisterStats(receiverID, receiver("first"))
	unregisterSecond := r.RegisterStats(receiverID, receiver("second"))

	unregisterFirst()
	stats, ok := r.stats("tapioebpf")
	assert.True(t, ok)
	assert.Equal(t, "second", stats.Source)

	unregisterSecond()
	unregisterSecond()
	assert.Empty(t, r.ids())
}
