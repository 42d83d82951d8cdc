// Copyright The otelcol-tapio Authors
// SPDX-License-Identifier: Apache-2.0

package tapiojoinprocessor // import "github.com/tapio-io/otelcol-tapio/processor/tapiojoinprocessor"

import (
	"context"
	"errors"
	"fmt"

	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/metric"
	"go.uber.org/zap"
)

// counts of what the joiner did.
type counts struct {
	traces    [outcomeCount]int64
	waited    [signalCount][outcomeCount]int64
	held      [signalCount]int64
	rewritten [signalCount]int64
	refused   [signalCount]int64
}

var (
	outcomeNames = [outcomeCount]string{"joined", "alone", "expired", "overflow", "shutdown"}
	signalNames  = [signalCount]string{"traces", "logs"}
)

// refused items had been taken from their sender, so that nobody sends them again.
func (j *joiner) refused(of signal, count int, err error) {
	j.logger.Error("What has waited was refused by the next component and is lost",
		zap.String("signal", signalNames[of]), zap.Int("items", count), zap.Error(err))
	j.mu.Lock()
	defer j.mu.Unlock()
	j.counts.refused[of] += int64(count)
}

func (j *joiner) countsNow() counts {
	j.mu.Lock()
	defer j.mu.Unlock()
	return j.counts
}

// observe has the collector ask for the counts.
func (j *joiner) observe() error {
	err := errors.Join(
		j.telemetry.RegisterProcessorTapioJoinTracesCallback(j.observeTraces),
		j.telemetry.RegisterProcessorTapioJoinWaitedCallback(j.observeWaited),
		j.telemetry.RegisterProcessorTapioJoinHeldCallback(j.observeSignals(func(c *counts) [signalCount]int64 { return c.held })),
		j.telemetry.RegisterProcessorTapioJoinRewrittenCallback(j.observeSignals(func(c *counts) [signalCount]int64 { return c.rewritten })),
		j.telemetry.RegisterProcessorTapioJoinRefusedCallback(j.observeSignals(func(c *counts) [signalCount]int64 { return c.refused })),
	)
	if err != nil {
		return fmt.Errorf("register the processor's own metrics: %w", err)
	}
	return nil
}

func (j *joiner) observeTraces(_ context.Context, observer metric.Int64Observer) error {
	for outcome, count := range j.countsNow().traces {
		observer.Observe(count, metric.WithAttributes(attribute.String("outcome", outcomeNames[outcome])))
	}
	return nil
}

func (j *joiner) observeWaited(_ context.Context, observer metric.Int64Observer) error {
	for signal, outcomes := range j.countsNow().waited {
		for outcome, count := range outcomes {
			observer.Observe(count, metric.WithAttributes(
				attribute.String("signal", signalNames[signal]), attribute.String("outcome", outcomeNames[outcome])))
		}
	}
	return nil
}

func (j *joiner) observeSignals(of func(*counts) [signalCount]int64) metric.Int64Callback {
	return func(_ context.Context, observer metric.Int64Observer) error {
		c := j.countsNow()
		for signal, count := range of(&c) {
			observer.Observe(count, metric.WithAttributes(attribute.String("signal", signalNames[signal])))
		}
		return nil
	}
}
