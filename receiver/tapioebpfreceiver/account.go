// Copyright The otelcol-tapio Authors
// SPDX-License-Identifier: Apache-2.0

package tapioebpfreceiver // import "github.com/tapio-io/otelcol-tapio/receiver/tapioebpfreceiver"

import (
	"context"
	"fmt"
	"time"

	"go.opentelemetry.io/collector/component"
	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/metric"
	"go.uber.org/zap"

	"github.com/tapio-io/otelcol-tapio/receiver/tapioebpfreceiver/internal/event"
	"github.com/tapio-io/otelcol-tapio/receiver/tapioebpfreceiver/internal/ledger"
	"github.com/tapio-io/otelcol-tapio/receiver/tapioebpfreceiver/internal/source"
)

// registerStats tells the extensions that keep a registry of this receiver.
func (r *tapioReceiver) registerStats(host component.Host) (unregister func()) {
	var all []func()
	for _, extension := range host.GetExtensions() {
		if registry, ok := extension.(StatsRegistry); ok {
			all = append(all, registry.RegisterStats(r.set.ID, r.stats))
		}
	}
	return func() {
		for _, unregister := range all {
			unregister()
		}
	}
}

// stats may be called from any goroutine while the receiver runs.
func (r *tapioReceiver) stats() Stats {
	now := time.Now()
	s := Stats{
		Source:          r.source.Name(),
		StartTime:       float64(r.started.UnixMilli()) / 1e3,
		UptimeSeconds:   int64(now.Sub(r.started).Seconds()),
		EventCounts:     map[string]uint64{},
		ActiveProcesses: int(r.reader.active.Load()),
		Ledger:          map[string]LedgerRow{},
		Kubernetes:      r.kubernetesStats(),
		Etcd:            r.etcdStats(),
		Ready:           true,
	}
	for _, c := range r.source.Capabilities() {
		s.Capabilities = append(s.Capabilities, Capability(c))
	}
	if denied := deniedFamily(s.Capabilities); denied != "" {
		s.Ready, s.Reason = false, denied
	}
	if failed := r.reader.failed.Load(); failed != nil {
		s.Ready, s.Reason = false, *failed
	}
	rows, err := r.ledger.Rows(r.source.Counters)
	if err != nil {
		s.Ready, s.Reason = false, err.Error()
	}
	for family, row := range rows {
		s.Ledger[family.String()] = ledgerRow(row)
		if family == event.FamilyCgroup {
			continue // no events: they are in the resources of those that come after them
		}
		s.EventCounts[family.String()] = row.Exported + row.Aggregated
		s.TotalEvents += row.Exported + row.Aggregated
	}
	return s
}

// deniedFamily is the reason of a family of which no hook is attached, and at least one could be if
// we were let; empty if there is none.
func deniedFamily(capabilities []Capability) string {
	attached := map[string]bool{}
	for _, c := range capabilities {
		attached[c.Family] = attached[c.Family] || c.State == source.Attached
	}
	for _, c := range capabilities {
		if !attached[c.Family] && c.State == source.Denied {
			return fmt.Sprintf("family %s has no hook: %s is denied: %s", c.Family, c.Hook, c.Reason)
		}
	}
	return ""
}

func ledgerRow(row ledger.Row) LedgerRow { return LedgerRow(row) }

// observe registers what is measured when the collector's own metrics are read.
func (r *tapioReceiver) observe() error {
	if err := r.telemetry.RegisterReceiverTapioebpfEventsCallback(r.observeEvents); err != nil {
		return fmt.Errorf("register the events metric: %w", err)
	}
	if err := r.telemetry.RegisterReceiverTapioebpfHooksCallback(r.observeHooks); err != nil {
		return fmt.Errorf("register the metric of hooks: %w", err)
	}
	if err := r.telemetry.RegisterReceiverTapioebpfIdentityWaitedCallback(r.observeWaited); err != nil {
		return fmt.Errorf("register the metric of events that waited: %w", err)
	}
	if err := r.telemetry.RegisterReceiverTapioebpfIdentityUnnamedCallback(r.observeUnnamed); err != nil {
		return fmt.Errorf("register the metric of events without names: %w", err)
	}
	if err := r.telemetry.RegisterReceiverTapioebpfCorrelationGivenUpCallback(r.observeGivenUp); err != nil {
		return fmt.Errorf("register the metric of parents that were missed: %w", err)
	}
	if err := r.telemetry.RegisterReceiverTapioebpfMissedRunsCallback(r.observeMissedRuns); err != nil {
		return fmt.Errorf("register the metric of missed runs: %w", err)
	}
	return nil
}

// observeHooks is the capability report as the collector's own metric. Where two programs are at one hook, they add up.
func (r *tapioReceiver) observeHooks(_ context.Context, observer metric.Int64Observer) error {
	for _, c := range r.source.Capabilities() {
		observer.Observe(1, metric.WithAttributes(attribute.String("family", c.Family), attribute.String("hook", c.Hook), attribute.String("state", c.State)))
	}
	return nil
}

func (r *tapioReceiver) observeMissedRuns(_ context.Context, observer metric.Int64Observer) error {
	for _, c := range r.source.Capabilities() {
		if c.State == source.Attached {
			observer.Observe(int64(c.MissedRuns), metric.WithAttributes(attribute.String("family", c.Family), attribute.String("hook", c.Hook)))
		}
	}
	return nil
}

func (r *tapioReceiver) observeWaited(_ context.Context, observer metric.Int64Observer) error {
	observer.Observe(int64(r.naming.WaitedNamed.Load()), metric.WithAttributes(attribute.String("outcome", "named")))
	observer.Observe(int64(r.naming.WaitedPodNamed.Load()), metric.WithAttributes(attribute.String("outcome", "pod_named")))
	observer.Observe(int64(r.naming.WaitedUnnamed.Load()), metric.WithAttributes(attribute.String("outcome", "unnamed")))
	return nil
}

func (r *tapioReceiver) observeUnnamed(_ context.Context, observer metric.Int64Observer) error {
	observer.Observe(int64(r.naming.NoContainer.Load()), metric.WithAttributes(attribute.String("missing", "container")))
	observer.Observe(int64(r.naming.NoPod.Load()), metric.WithAttributes(attribute.String("missing", "pod")))
	return nil
}

func (r *tapioReceiver) observeGivenUp(_ context.Context, observer metric.Int64Observer) error {
	for limit, count := range map[string]uint64{
		"max_wait":     r.givenUp.MaxWait.Load(),
		"max_held":     r.givenUp.MaxHeld.Load(),
		"max_requests": r.givenUp.MaxRequests.Load(),
		"max_depth":    r.givenUp.MaxDepth.Load(),
		"max_children": r.givenUp.MaxChildren.Load(),
	} {
		observer.Observe(int64(count), metric.WithAttributes(attribute.String("limit", limit)))
	}
	return nil
}

// observeEvents is the ledger as the collector's own metric.
func (r *tapioReceiver) observeEvents(_ context.Context, observer metric.Int64Observer) error {
	rows, err := r.ledger.Rows(r.source.Counters)
	if err != nil {
		r.set.Logger.Warn("The events metric cannot be read", zap.Error(err))
		return err
	}
	for family, row := range rows {
		observe := func(fate string, n uint64, more ...attribute.KeyValue) {
			attributes := append(more, attribute.String("family", family.String()), attribute.String("fate", fate))
			observer.Observe(int64(n), metric.WithAttributes(attributes...))
		}
		observe(ledger.Exported.String(), row.Exported)
		observe(ledger.Aggregated.String(), row.Aggregated)
		observe(ledger.Filtered.String(), row.Filtered)
		for reason, n := range row.Lost {
			observe("lost", n, attribute.String("reason", reason))
		}
	}
	return nil
}
