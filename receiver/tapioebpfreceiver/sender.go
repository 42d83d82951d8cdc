// Copyright The otelcol-tapio Authors
// SPDX-License-Identifier: Apache-2.0

package tapioebpfreceiver // import "github.com/tapio-io/otelcol-tapio/receiver/tapioebpfreceiver"

import (
	"context"
	"errors"
	"sync/atomic"
	"time"

	"github.com/cenkalti/backoff/v5"
	"go.opentelemetry.io/collector/component"
	"go.opentelemetry.io/collector/component/componentstatus"
	"go.opentelemetry.io/collector/consumer/consumererror"
	"go.opentelemetry.io/collector/pdata/plog"
	"go.opentelemetry.io/collector/pdata/pmetric"
	"go.opentelemetry.io/collector/pdata/ptrace"

	"github.com/tapio-io/otelcol-tapio/receiver/tapioebpfreceiver/internal/ledger"
	"github.com/tapio-io/otelcol-tapio/receiver/tapioebpfreceiver/internal/metadata"
	"github.com/tapio-io/otelcol-tapio/receiver/tapioebpfreceiver/internal/translate"
)

// sender hands finished batches to the next components. They may be slow; the reader is kept from
// them by a bounded queue and never waits.
type sender struct {
	receiver *tapioReceiver
	host     component.Host
	queue    chan parcel
	done     chan struct{}

	ctx    context.Context // of the consumers; canceled when they take too long at the end
	cancel context.CancelFunc

	events   atomic.Int64 // handed over, not yet at their end
	refusing bool         // of the sender's own goroutine
}

// parcel is a batch or metrics; the other is nil.
type parcel struct {
	batch   *translate.Batch
	metrics *pmetric.Metrics
}

func newSender(r *tapioReceiver, host component.Host) *sender {
	ctx, cancel := context.WithCancel(context.Background())
	return &sender{
		receiver: r,
		host:     host,
		queue:    make(chan parcel, r.config.Batch.QueueSize),
		done:     make(chan struct{}),
		ctx:      ctx,
		cancel:   cancel,
	}
}

func (s *sender) start() {
	go func() {
		defer close(s.done)
		for p := range s.queue {
			s.deliver(p)
		}
	}()
}

// lastCall is how long the next components have at the end where the collector sets no limit.
const lastCall = 10 * time.Second

// stop hands over what waits, until ctx ends; what is left then is lost, and said to be.
func (s *sender) stop(ctx context.Context) {
	ctx, cancel := context.WithTimeout(ctx, lastCall)
	defer cancel()
	close(s.queue)
	select {
	case <-s.done:
	case <-ctx.Done():
		s.cancel()
		s.giveUp()
	}
	s.cancel()
}

// giveUp empties the queue itself: a consumer that does not heed its context may hold the sender
// for as long as it likes, and what it holds stays in flight.
func (s *sender) giveUp() {
	for p := range s.queue {
		if p.batch != nil {
			s.end(p.batch, ledger.LostShutdown)
		}
	}
	select {
	case <-s.done:
	case <-time.After(time.Second):
	}
}

// waiting is the number of events that were handed over and have not come to their end.
func (s *sender) waiting() uint64 { return uint64(s.events.Load()) }

// send is called by the reader, and never waits.
func (s *sender) send(batch *translate.Batch) {
	s.events.Add(int64(batch.Events))
	select {
	case s.queue <- parcel{batch: batch}:
	default:
		s.end(batch, ledger.LostQueueFull)
	}
}

// sendMetrics leaves a round out if the queue is full: the next one, being cumulative, has it all.
func (s *sender) sendMetrics(metrics pmetric.Metrics) {
	select {
	case s.queue <- parcel{metrics: &metrics}:
	default:
	}
}

// end notes what became of a batch's events.
func (s *sender) end(batch *translate.Batch, fate ledger.Fate) {
	s.receiver.ledger.AddCounts(&batch.Counts, fate)
	s.events.Add(-int64(batch.Events))
}

func (s *sender) deliver(p parcel) {
	if s.ctx.Err() != nil { // too late
		if p.batch != nil {
			s.end(p.batch, ledger.LostShutdown)
		}
		return
	}
	if p.metrics != nil {
		s.report(s.consumeMetrics(*p.metrics))
		return
	}
	err := errors.Join(s.consumeTraces(p.batch.Traces), s.consumeLogs(p.batch.Logs))
	s.end(p.batch, s.fateOf(err))
	s.report(err)
}

func (s *sender) fateOf(err error) ledger.Fate {
	switch {
	case err == nil:
		return ledger.Exported
	case s.ctx.Err() != nil:
		return ledger.LostShutdown
	default:
		return ledger.LostRefused
	}
}

// retry hands data over again while the next component says that it may take it later, as
// memory_limiter does. Meanwhile the queue fills.
func (s *sender) retry(ctx context.Context, consume func() error) error {
	if s.receiver.config.Batch.RetryTimeout == 0 {
		return consume()
	}
	_, err := backoff.Retry(ctx, func() (struct{}, error) {
		err := consume()
		if err != nil && consumererror.IsPermanent(err) {
			err = backoff.Permanent(err)
		}
		return struct{}{}, err
	}, backoff.WithBackOff(s.backOff()), backoff.WithMaxElapsedTime(s.receiver.config.Batch.RetryTimeout))
	return err
}

// firstRetry is short beside the time in which the queue fills.
const firstRetry = 20 * time.Millisecond

func (*sender) backOff() backoff.BackOff {
	b := backoff.NewExponentialBackOff()
	b.InitialInterval = firstRetry
	b.MaxInterval = time.Second
	return b
}

func (s *sender) consumeTraces(traces ptrace.Traces) error {
	spans := traces.SpanCount()
	if spans == 0 {
		return nil
	}
	ctx := s.receiver.obsreport.StartTracesOp(s.ctx)
	err := s.retry(ctx, func() error { return s.receiver.next.traces.ConsumeTraces(ctx, traces) })
	s.receiver.obsreport.EndTracesOp(ctx, metadata.Type.String(), spans, err)
	return err
}

func (s *sender) consumeLogs(logs plog.Logs) error {
	records := logs.LogRecordCount()
	if records == 0 {
		return nil
	}
	ctx := s.receiver.obsreport.StartLogsOp(s.ctx)
	err := s.retry(ctx, func() error { return s.receiver.next.logs.ConsumeLogs(ctx, logs) })
	s.receiver.obsreport.EndLogsOp(ctx, metadata.Type.String(), records, err)
	return err
}

func (s *sender) consumeMetrics(metrics pmetric.Metrics) error {
	points := metrics.DataPointCount()
	ctx := s.receiver.obsreport.StartMetricsOp(s.ctx)
	err := s.receiver.next.metrics.ConsumeMetrics(ctx, metrics)
	s.receiver.obsreport.EndMetricsOp(ctx, metadata.Type.String(), points, err)
	return err
}

// report tells the collector when the next components begin to refuse data, and when they take it
// again.
func (s *sender) report(err error) {
	refusing := err != nil
	if refusing == s.refusing {
		return
	}
	s.refusing = refusing
	status := componentstatus.NewEvent(componentstatus.StatusOK)
	if refusing {
		status = componentstatus.NewRecoverableErrorEvent(err)
	}
	componentstatus.ReportStatus(s.host, status)
}
