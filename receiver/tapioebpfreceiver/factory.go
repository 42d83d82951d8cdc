// Copyright The otelcol-tapio Authors
// SPDX-License-Identifier: Apache-2.0

// Package tapioebpfreceiver observes processes and network traffic of a Linux node with eBPF and
// turns what it sees into traces, metrics and logs.
package tapioebpfreceiver // import "github.com/tapio-io/otelcol-tapio/receiver/tapioebpfreceiver"

import (
	"context"
	"fmt"
	"sync"

	"go.opentelemetry.io/collector/component"
	"go.opentelemetry.io/collector/consumer"
	"go.opentelemetry.io/collector/receiver"

	"github.com/tapio-io/otelcol-tapio/receiver/tapioebpfreceiver/internal/metadata"
)

// NewFactory returns the factory of the receiver.
func NewFactory() receiver.Factory {
	return receiver.NewFactory(
		metadata.Type,
		createDefaultConfig,
		receiver.WithTraces(createTraces, metadata.TracesStability),
		receiver.WithMetrics(createMetrics, metadata.MetricsStability),
		receiver.WithLogs(createLogs, metadata.LogsStability),
	)
}

func createTraces(_ context.Context, set receiver.Settings, cfg component.Config, next consumer.Traces) (receiver.Traces, error) {
	return shared.add(set, cfg.(*Config), func(r *tapioReceiver) error { return connect(&r.next.traces, next) })
}

func createMetrics(_ context.Context, set receiver.Settings, cfg component.Config, next consumer.Metrics) (receiver.Metrics, error) {
	return shared.add(set, cfg.(*Config), func(r *tapioReceiver) error { return connect(&r.next.metrics, next) })
}

func createLogs(_ context.Context, set receiver.Settings, cfg component.Config, next consumer.Logs) (receiver.Logs, error) {
	return shared.add(set, cfg.(*Config), func(r *tapioReceiver) error { return connect(&r.next.logs, next) })
}

// shared has the receivers by their configuration: the collector asks for one a signal, and all
// three must be the same, since the kernel's events are read once.
var shared = instances{receivers: map[*Config]*tapioReceiver{}}

type instances struct {
	mu        sync.Mutex
	receivers map[*Config]*tapioReceiver
}

func (i *instances) add(set receiver.Settings, cfg *Config, connect func(*tapioReceiver) error) (*tapioReceiver, error) {
	i.mu.Lock()
	defer i.mu.Unlock()
	r, err := i.get(set, cfg)
	if err != nil {
		return nil, err
	}
	if r.begun.Load() {
		return nil, fmt.Errorf("a receiver with this configuration runs already, and its signals are settled; %s", oneEach)
	}
	if err := connect(r); err != nil {
		return nil, err
	}
	return r, nil
}

func (i *instances) get(set receiver.Settings, cfg *Config) (*tapioReceiver, error) {
	if r, ok := i.receivers[cfg]; ok {
		return r, nil
	}
	r, err := newReceiver(set, cfg)
	if err != nil {
		return nil, err
	}
	i.receivers[cfg] = r
	return r, nil
}

// oneEach is what to do in a program that makes receivers itself. The collector does so.
const oneEach = "shut it down first, or make another one with a configuration of its own, by CreateDefaultConfig"

// connect a signal with the next component. With a second one, the first would get nothing any more.
func connect[C comparable](signal *C, next C) error {
	var none C
	if *signal != none {
		return fmt.Errorf("the receiver with this configuration has a consumer of this signal already; %s", oneEach)
	}
	*signal = next
	return nil
}

// remove lets the same configuration make a new receiver.
func (i *instances) remove(cfg *Config) {
	i.mu.Lock()
	defer i.mu.Unlock()
	delete(i.receivers, cfg)
}
