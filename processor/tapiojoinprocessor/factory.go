// Copyright The otelcol-tapio Authors
// SPDX-License-Identifier: Apache-2.0

// Package tapiojoinprocessor joins the traces of requests between nodes. Two agents that do not know of
// each other tell the client's and the server's side in two traces, if the client's is a child itself; the
// second trace's id is made of the link between the two. Where both come by, at a gateway, the second one's
// spans and log records get the id of the first.
package tapiojoinprocessor // import "github.com/tapio-io/otelcol-tapio/processor/tapiojoinprocessor"

import (
	"context"
	"sync"

	"go.opentelemetry.io/collector/component"
	"go.opentelemetry.io/collector/consumer"
	"go.opentelemetry.io/collector/processor"

	"github.com/tapio-io/otelcol-tapio/processor/tapiojoinprocessor/internal/metadata"
)

// NewFactory returns the factory of the processor.
func NewFactory() processor.Factory {
	return processor.NewFactory(
		metadata.Type,
		createDefaultConfig,
		processor.WithTraces(createTraces, metadata.TracesStability),
		processor.WithLogs(createLogs, metadata.LogsStability),
	)
}

func createTraces(_ context.Context, set processor.Settings, cfg component.Config, next consumer.Traces) (processor.Traces, error) {
	j, err := shared.use(set, cfg.(*Config))
	if err != nil {
		return nil, err
	}
	p := newTracesProcessor(j, next)
	j.add(p)
	return p, nil
}

func createLogs(_ context.Context, set processor.Settings, cfg component.Config, next consumer.Logs) (processor.Logs, error) {
	j, err := shared.use(set, cfg.(*Config))
	if err != nil {
		return nil, err
	}
	p := newLogsProcessor(j, next)
	j.add(p)
	return p, nil
}

// shared has the joiners by their configuration: the collector asks for a processor a pipeline, and what the
// spans tell counts for the log records, too.
var shared = instances{joiners: map[*Config]*joiner{}}

type instances struct {
	mu      sync.Mutex
	joiners map[*Config]*joiner
}

func (i *instances) use(set processor.Settings, cfg *Config) (*joiner, error) {
	i.mu.Lock()
	defer i.mu.Unlock()
	j, ok := i.joiners[cfg]
	if !ok {
		var err error
		if j, err = newJoiner(set, cfg); err != nil {
			return nil, err
		}
		i.joiners[cfg] = j
	}
	j.users++
	return j, nil
}

// leave says whether nobody uses the joiner any more. The same configuration then makes a new one.
func (i *instances) leave(j *joiner) bool {
	i.mu.Lock()
	defer i.mu.Unlock()
	j.users--
	if j.users > 0 {
		return false
	}
	delete(i.joiners, j.config)
	return true
}
