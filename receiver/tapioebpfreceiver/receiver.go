// Copyright The otelcol-tapio Authors
// SPDX-License-Identifier: Apache-2.0

package tapioebpfreceiver // import "github.com/tapio-io/otelcol-tapio/receiver/tapioebpfreceiver"

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"sync/atomic"
	"time"

	"go.opentelemetry.io/collector/component"
	"go.opentelemetry.io/collector/consumer"
	"go.opentelemetry.io/collector/receiver"
	"go.opentelemetry.io/collector/receiver/receiverhelper"
	"go.uber.org/zap"

	"github.com/tapio-io/otelcol-tapio/receiver/tapioebpfreceiver/internal/correlate"
	"github.com/tapio-io/otelcol-tapio/receiver/tapioebpfreceiver/internal/footprint"
	"github.com/tapio-io/otelcol-tapio/receiver/tapioebpfreceiver/internal/identity"
	"github.com/tapio-io/otelcol-tapio/receiver/tapioebpfreceiver/internal/identity/kube"
	"github.com/tapio-io/otelcol-tapio/receiver/tapioebpfreceiver/internal/ledger"
	"github.com/tapio-io/otelcol-tapio/receiver/tapioebpfreceiver/internal/metadata"
	"github.com/tapio-io/otelcol-tapio/receiver/tapioebpfreceiver/internal/source"
	"github.com/tapio-io/otelcol-tapio/receiver/tapioebpfreceiver/internal/translate"
)

// tapioReceiver is one receiver for all three signals.
type tapioReceiver struct {
	set    receiver.Settings
	config *Config
	next   consumers

	obsreport  *receiverhelper.ObsReport
	telemetry  *metadata.TelemetryBuilder
	openSource func(*Config, receiver.Settings) (source.Source, error)
	otherNames identity.Names // where there are none; nil but in tests

	startOnce, shutdownOnce sync.Once
	startErr                error
	begun, ended            atomic.Bool // Start, or Shutdown, was called
	started                 time.Time
	ledger                  ledger.Ledger
	naming                  translate.Naming
	givenUp                 correlate.GivenUp
	status                  status
	source                  source.Source
	reader                  *reader
	sender                  *sender
	kube                    *kube.Watcher // nil: not asked for
	unregister              func()
}

// consumers are the next components; nil where a signal is in no pipeline.
type consumers struct {
	traces  consumer.Traces
	metrics consumer.Metrics
	logs    consumer.Logs
}

func newReceiver(set receiver.Settings, cfg *Config) (*tapioReceiver, error) {
	obsreport, err := receiverhelper.NewObsReport(receiverhelper.ObsReportSettings{
		ReceiverID:             set.ID,
		Transport:              cfg.Source, // what receiverhelper's own metrics name as the way the data came
		ReceiverCreateSettings: set,
	})
	if err != nil {
		return nil, fmt.Errorf("create the receiver's own telemetry: %w", err)
	}
	telemetry, err := metadata.NewTelemetryBuilder(set.TelemetrySettings)
	if err != nil {
		return nil, fmt.Errorf("create the receiver's own telemetry: %w", err)
	}
	return &tapioReceiver{
		set: set, config: cfg, obsreport: obsreport, telemetry: telemetry,
		openSource: openSource, unregister: func() {}, status: status{grace: startGrace},
	}, nil
}

// Start implements component.Component. The collector calls it once a signal; the first call starts
// the receiver. One that was shut down does not start again.
func (r *tapioReceiver) Start(ctx context.Context, host component.Host) error {
	r.begun.Store(true)
	if r.ended.Load() {
		return errors.New("start: this receiver was shut down, and cannot be used again: have the factory create another one")
	}
	r.status.add(host)
	r.startOnce.Do(func() { r.startErr = r.start(ctx, host) })
	return r.startErr
}

func (r *tapioReceiver) start(ctx context.Context, host component.Host) error {
	if ctx.Err() != nil {
		return fmt.Errorf("start: %w", context.Cause(ctx))
	}
	var err error
	if r.source, err = r.openSource(r.config, r.set); err != nil {
		return err
	}
	r.started = time.Now()
	if err := r.prepare(ctx); err != nil {
		return errors.Join(err, r.abandon())
	}
	r.sender.start()
	r.startEtcd()
	r.reader.start()
	r.unregister = r.registerStats(host)
	r.status.started()
	r.trim()
	return nil
}

// prepare all that can fail once the source is open.
func (r *tapioReceiver) prepare(ctx context.Context) error {
	if ctx.Err() != nil { // to open the source takes a second or more
		return fmt.Errorf("start: %w", context.Cause(ctx))
	}
	if err := r.observe(); err != nil {
		return err
	}
	if err := r.startKubernetes(); err != nil {
		return err
	}
	r.sender = newSender(r)
	var err error
	r.reader, err = newReader(r)
	return err
}

// abandon a start that failed. The collector's own metrics may be read after that, and must not ask a
// source that is closed.
func (r *tapioReceiver) abandon() error {
	r.stopKubernetes()
	r.telemetry.Shutdown()
	return r.source.Close()
}

func (r *tapioReceiver) trim() {
	if err := footprint.Trim(); err != nil {
		r.set.Logger.Debug("Memory of the start was not given back", zap.Error(err))
	}
}

// Shutdown implements component.Component: no more events are made, those that were made go out,
// and what the next components do not take before ctx ends is in the ledger as lost. It is called once a signal, and the
// first call returns what was wrong.
func (r *tapioReceiver) Shutdown(ctx context.Context) (err error) {
	r.ended.Store(true)
	r.shutdownOnce.Do(func() { err = r.shutdown(ctx) })
	return err
}

func (r *tapioReceiver) shutdown(ctx context.Context) error {
	r.status.end()
	shared.remove(r.config)
	r.unregister()
	if r.reader == nil {
		return nil // it never started
	}
	close(r.sender.hurry)
	r.reader.stop()
	r.sender.stop(ctx)
	r.stopKubernetes()
	r.closeLedger()
	r.telemetry.Shutdown()
	err := r.status.failed()
	if closing := r.source.Close(); closing != nil {
		err = errors.Join(err, fmt.Errorf("close the source: %w", closing))
	}
	return err
}

// closeLedger gives what has not come to an end its row, and says what became of everything, since
// nobody can ask any more.
func (r *tapioReceiver) closeLedger() {
	rows, err := r.ledger.Rows(r.source.Counters)
	if err != nil {
		r.set.Logger.Error("The final ledger cannot be read", zap.Error(err))
		return
	}
	for family, row := range rows {
		if row.InFlight > 0 {
			r.ledger.Add(family, ledger.LostShutdown, row.InFlight)
			row.Lost[ledger.LostShutdown.Reason()] += row.InFlight
			row.InFlight = 0
		}
		r.set.Logger.Info("Final ledger", zap.Stringer("family", family), zap.Any("row", ledgerRow(row)))
	}
}
