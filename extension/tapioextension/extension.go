// Copyright The otelcol-tapio Authors
// SPDX-License-Identifier: Apache-2.0

package tapioextension // import "github.com/tapio-io/otelcol-tapio/extension/tapioextension"

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/http"
	"sync/atomic"
	"time"

	"go.opentelemetry.io/collector/component"
	"go.opentelemetry.io/collector/component/componentstatus"
	"go.opentelemetry.io/collector/extension"
	"go.opentelemetry.io/collector/extension/extensioncapabilities"
	"go.uber.org/zap"

	"github.com/tapio-io/otelcol-tapio/receiver/tapioebpfreceiver"
)

// drainTimeout is how long Shutdown lets requests finish before it cuts them off.
const drainTimeout = 2 * time.Second

// Why the pipelines are not ready.
const (
	pipelinesNotStarted = "the pipelines have not started yet"
	pipelinesStopping   = "the pipelines are shutting down"
)

type tapioExtension struct {
	registry

	config    *Config
	telemetry component.TelemetrySettings
	// pipelines is why the pipelines are not ready, or "" if they are.
	pipelines atomic.Value

	listener net.Listener
	server   *http.Server
	// served is closed when the server has stopped.
	served chan struct{}
}

var (
	_ extension.Extension                   = (*tapioExtension)(nil)
	_ extensioncapabilities.PipelineWatcher = (*tapioExtension)(nil)
	_ tapioebpfreceiver.StatsRegistry       = (*tapioExtension)(nil)
)

func newExtension(config *Config, telemetry component.TelemetrySettings) *tapioExtension {
	e := &tapioExtension{config: config, telemetry: telemetry}
	e.pipelines.Store(pipelinesNotStarted)
	return e
}

// Start listens before it returns, so that an endpoint that is in use fails the start.
func (e *tapioExtension) Start(ctx context.Context, host component.Host) error {
	server, err := e.config.ToServer(ctx, host.GetExtensions(), e.telemetry, e.handler())
	if err != nil {
		return fmt.Errorf("create HTTP server: %w", err)
	}
	listener, err := e.config.ToListener(ctx)
	if err != nil {
		return fmt.Errorf("listen on endpoint %q: %w", e.config.NetAddr.Endpoint, err)
	}
	e.telemetry.Logger.Info("Serving health and stats", zap.Stringer("address", listener.Addr()))

	e.server, e.listener, e.served = server, listener, make(chan struct{})
	go e.serve(host)
	return nil
}

func (e *tapioExtension) serve(host component.Host) {
	err := e.server.Serve(e.listener)
	close(e.served) // before it is told: a collector that ends already does not listen
	if !errors.Is(err, http.ErrServerClosed) {
		err = fmt.Errorf("serve on endpoint %q: %w", e.config.NetAddr.Endpoint, err)
		componentstatus.ReportStatus(host, componentstatus.NewFatalErrorEvent(err))
	}
}

// Shutdown lets the requests that are being answered finish.
func (e *tapioExtension) Shutdown(ctx context.Context) error {
	if e.server == nil {
		return nil
	}
	ctx, cancel := context.WithTimeout(ctx, drainTimeout)
	defer cancel()
	err := e.server.Shutdown(ctx)
	if ctx.Err() != nil {
		err = e.server.Close()
	}
	<-e.served
	if err != nil {
		return fmt.Errorf("close endpoint %q: %w", e.config.NetAddr.Endpoint, err)
	}
	return nil
}

// Ready is called when all receivers have started.
func (e *tapioExtension) Ready() error {
	e.pipelines.Store("")
	return nil
}

// NotReady is called before the receivers are stopped.
func (e *tapioExtension) NotReady() error {
	e.pipelines.Store(pipelinesStopping)
	return nil
}
