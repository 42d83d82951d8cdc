// Copyright The otelcol-tapio Authors
// SPDX-License-Identifier: Apache-2.0

package tapioebpfreceiver // import "github.com/tapio-io/otelcol-tapio/receiver/tapioebpfreceiver"

import (
	"context"
	"errors"
	"sync"
	"sync/atomic"
	"time"

	"github.com/cenkalti/backoff/v5"
	"go.opentelemetry.io/collector/consumer"
	"go.opentelemetry.io/collector/consumer/consumererror"
	"go.opentelemetry.io/collector/pdata/plog"
	"go.opentelemetry.io/collector/pdata/pmetric"
	"go.opentelemetry.io/collector/pdata/ptrace"
	"go.opentelemetry.io/collector/pipeline"

	"github.com/tapio-io/otelcol-tapio/receiver/tapioebpfreceiver/internal/ledger"
	"github.com/tapio-io/otelcol-tapio/receiver/tapioebpfreceiver/internal/metadata"
	"github.com/tapio-io/otelcol-tapio/receiver/tapioebpfreceiver/internal/translate"
)

const (
	// fullBatches is how many batches of max_events may wait at the most, since queue_size counts
	// batches of any size: an event in a span and a log record takes about 1.5 KiB.
	fullBatches = 8
	// minLimit is how many events may wait in any case.
	minLimit = 65536
	// firstRetry is short beside the time in which the queue fills.
	firstRetry = 20 * time.Millisecond
	// lastCall is how long the next components have at the end where the collector sets no limit.
	lastCall = 10 * time.Second
	// lastWord is how long a next component has that was told that it is too late.
	lastWord = time.Second
)

// sender hands finished batches to the next components. They may be slow; the reader is kept from
// them by a bounded queue and never waits. Metrics have a way of their own, so that traces or logs
// that are held up do not hold them up.
type sender struct {
	receiver *tapioReceiver
	queue    chan *parcel
	metrics  chan pmetric.Metrics // one round: the newest
	running  sync.WaitGroup

	ctx    context.Context // of the consumers; canceled when they take too long at the end
	cancel context.CancelFunc

	room  chan struct{} // told when a batch has come to its end
	hurry chan struct{} // closed when the reader must not wait any more

	events  atomic.Int64 // handed over, not yet at their end
	current atomic.Pointer[parcel]
}

// parcel is a batch on its way.
type parcel struct {
	batch *translate.Batch
	ended sync.Once
}

func newSender(r *tapioReceiver) *sender {
	ctx, cancel := context.WithCancel(context.Background())
	return &sender{
		receiver: r,
		queue:    make(chan *parcel, r.config.Batch.QueueSize),
		metrics:  make(chan pmetric.Metrics, 1),
		room:     make(chan struct{}, 1),
		hurry:    make(chan struct{}),
		ctx:      ctx,
		cancel:   cancel,
	}
}

func (s *sender) start() {
	s.running.Go(func() {
		for p := range s.queue {
			s.deliver(p)
		}
	})
	s.running.Go(func() {
		for metrics := range s.metrics {
			s.receiver.status.consumed(pipeline.SignalMetrics, s.consumeMetrics(metrics))
		}
	})
}

// stop hands over what waits, until ctx ends; what is left then is lost, and said to be.
func (s *sender) stop(ctx context.Context) {
	ctx, cancel := context.WithTimeout(ctx, lastCall)
	defer cancel()
	close(s.queue)
	close(s.metrics)
	done := make(chan struct{})
	go func() {
		s.running.Wait()
		close(done)
	}()
	select {
	case <-done:
	case <-ctx.Done():
		s.cancel()
		s.giveUp(done)
	}
	s.cancel()
}

// giveUp empties the queue itself: a consumer that does not heed its context may hold the sender
// for as long as it likes.
func (s *sender) giveUp(done <-chan struct{}) {
	for p := range s.queue {
		s.end(p, ledger.LostShutdown)
	}
	select {
	case <-done:
	case <-time.After(lastWord):
		if p := s.current.Load(); p != nil {
			s.end(p, ledger.LostShutdown)
		}
	}
}

// waiting is the number of events that were handed over and have not come to their end.
func (s *sender) waiting() int { return int(s.events.Load()) }

// limit is how many events may wait.
func (s *sender) limit() int { return max(fullBatches*s.receiver.config.Batch.MaxEvents, minLimit) }

// send is called by the reader. It waits for room only if the reader has the time.
func (s *sender) send(batch *translate.Batch, wait bool) {
	p := &parcel{batch: batch}
	if wait {
		s.sendInTurn(p)
		return
	}
	if s.events.Add(int64(batch.Events)) > int64(s.limit()) {
		s.end(p, ledger.LostQueueFull)
		return
	}
	select {
	case s.queue <- p:
	default:
		s.end(p, ledger.LostQueueFull)
	}
}

// sendInTurn waits until there is room, or until the receiver is to end.
func (s *sender) sendInTurn(p *parcel) {
	for s.waiting() > 0 && s.waiting()+p.batch.Events > s.limit() && !s.hurried() {
		select {
		case <-s.room:
		case <-s.hurry:
		}
	}
	s.events.Add(int64(p.batch.Events))
	select {
	case s.queue <- p:
		return
	case <-s.hurry:
	}
	select {
	case s.queue <- p:
	default:
		s.end(p, ledger.LostShutdown)
	}
}

func (s *sender) hurried() bool {
	select {
	case <-s.hurry:
		return true
	default:
		return false
	}
}

// sendMetrics takes the place of a round that still waits: the newer one, being cumulative, has it
// all.
func (s *sender) sendMetrics(metrics pmetric.Metrics) {
	select {
	case <-s.metrics:
	default:
	}
	s.metrics <- metrics // the reader is the only one who sends
}

// end notes what became of a batch's events, once.
func (s *sender) end(p *parcel, fate ledger.Fate) {
	p.ended.Do(func() {
		s.receiver.ledger.AddCounts(&p.batch.Counts, fate)
		s.events.Add(-int64(p.batch.Events))
		select {
		case s.room <- struct{}{}:
		default:
		}
	})
}

func (s *sender) deliver(p *parcel) {
	if s.ctx.Err() != nil { // too late
		s.end(p, ledger.LostShutdown)
		return
	}
	s.current.Store(p)
	defer s.current.Store(nil)
	traces, logs := s.consumeTraces(p.batch.Traces), s.consumeLogs(p.batch.Logs)
	s.end(p, s.fateOf(errors.Join(traces, logs)))
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
// memory_limiter does. It gives up as soon as the queue is half full, since what waits there takes
// memory too and may be the very reason for the refusal, unless the source waits as well.
func (s *sender) retry(ctx context.Context, attempt func() error) error {
	patience := s.receiver.config.Batch.RetryTimeout
	if patience == 0 {
		return attempt()
	}
	_, err := backoff.Retry(ctx, func() (struct{}, error) {
		err := attempt()
		if err != nil && (consumererror.IsPermanent(err) || s.isFilling()) {
			err = backoff.Permanent(err)
		}
		return struct{}{}, err
	}, backoff.WithBackOff(newBackOff()), backoff.WithMaxElapsedTime(patience))
	return err
}

func (s *sender) isFilling() bool {
	return !s.receiver.source.Patient() && (s.waiting() > s.limit()/2 || len(s.queue) > cap(s.queue)/2)
}

func newBackOff() backoff.BackOff {
	b := backoff.NewExponentialBackOff()
	b.InitialInterval = firstRetry
	b.MaxInterval = time.Second
	return b
}

// mustCopy says that data which may be handed over again has to be copied for each attempt: the next
// component changes it.
func (s *sender) mustCopy(capabilities consumer.Capabilities) bool {
	return capabilities.MutatesData && s.receiver.config.Batch.RetryTimeout > 0
}

func (s *sender) consumeTraces(traces ptrace.Traces) error {
	spans := traces.SpanCount()
	if spans == 0 {
		return nil
	}
	next := s.receiver.next.traces
	ctx := s.receiver.obsreport.StartTracesOp(s.ctx)
	err := s.retry(ctx, func() error {
		offered := traces
		if s.mustCopy(next.Capabilities()) {
			offered = ptrace.NewTraces()
			traces.CopyTo(offered)
		}
		return next.ConsumeTraces(ctx, offered)
	})
	s.receiver.obsreport.EndTracesOp(ctx, metadata.Type.String(), spans, err)
	s.receiver.status.consumed(pipeline.SignalTraces, err)
	return err
}

func (s *sender) consumeLogs(logs plog.Logs) error {
	records := logs.LogRecordCount()
	if records == 0 {
		return nil
	}
	next := s.receiver.next.logs
	ctx := s.receiver.obsreport.StartLogsOp(s.ctx)
	err := s.retry(ctx, func() error {
		offered := logs
		if s.mustCopy(next.Capabilities()) {
			offered = plog.NewLogs()
			logs.CopyTo(offered)
		}
		return next.ConsumeLogs(ctx, offered)
	})
	s.receiver.obsreport.EndLogsOp(ctx, metadata.Type.String(), records, err)
	s.receiver.status.consumed(pipeline.SignalLogs, err)
	return err
}

func (s *sender) consumeMetrics(metrics pmetric.Metrics) error {
	points := metrics.DataPointCount()
	ctx := s.receiver.obsreport.StartMetricsOp(s.ctx)
	err := s.receiver.next.metrics.ConsumeMetrics(ctx, metrics)
	s.receiver.obsreport.EndMetricsOp(ctx, metadata.Type.String(), points, err)
	return err
}
