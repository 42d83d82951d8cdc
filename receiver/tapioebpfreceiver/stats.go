// Copyright The otelcol-tapio Authors
// SPDX-License-Identifier: Apache-2.0

package tapioebpfreceiver // import "github.com/tapio-io/otelcol-tapio/receiver/tapioebpfreceiver"

import "go.opentelemetry.io/collector/component"

// Stats is a receiver's account of itself, as /stats shows it.
type Stats struct {
	// Source is where the events come from: "ebpf".
	Source string `json:"source"`
	// StartTime is when the receiver started, in seconds since 1970.
	StartTime     float64 `json:"start_time"`
	UptimeSeconds int64   `json:"uptime_seconds"`
	// EventCounts has, by family, the events that were exported or aggregated.
	EventCounts     map[string]uint64 `json:"event_counts"`
	TotalEvents     uint64            `json:"total_events"`
	ActiveProcesses int               `json:"active_processes"`
	// Ledger has, by family, what became of every event.
	Ledger       map[string]LedgerRow `json:"ledger"`
	Capabilities []Capability         `json:"capabilities"`
	// Kubernetes is nil where the API server is not asked. One that is away does not make the receiver
	// unready: it observes, and what it knows stays.
	Kubernetes *KubernetesStats `json:"kubernetes,omitempty"`
	// Etcd is nil where no keys are watched. An etcd that is away does not make the receiver unready either.
	Etcd *EtcdStats `json:"etcd,omitempty"`

	// Ready says that every enabled family is attached or reported unsupported.
	Ready bool `json:"-"`
	// Reason says why the receiver is not ready.
	Reason string `json:"-"`
}

// LedgerRow is one family's account. It is closed: Seen is the sum of all others.
type LedgerRow struct {
	Seen       uint64 `json:"seen"`
	Exported   uint64 `json:"exported"`
	Aggregated uint64 `json:"aggregated"`
	Filtered   uint64 `json:"filtered"`
	InFlight   uint64 `json:"in_flight"`
	// Lost is by reason: ring_full, throttled, table_full, unreadable, queue_full, refused, undecodable, shutdown.
	Lost map[string]uint64 `json:"lost"`
}

// Capability says of one hook in the kernel whether it is in use, and if not, why.
type Capability struct {
	Family string `json:"family"`
	// Hook is the program's type and what it attaches to, such as "tp_btf/sched_process_exec".
	Hook string `json:"hook"`
	// State is "attached", "unsupported" (this kernel does not have it) or "denied".
	State  string `json:"state"`
	Reason string `json:"reason,omitempty"`
	// MissedRuns are those that the kernel left out since it was running the program on that CPU
	// already: what an interrupt did just then was not seen. Not each would have been an event, so
	// they are counted beside the ledger.
	MissedRuns uint64 `json:"missed_runs,omitempty"`
}

// StatsRegistry is what an extension implements to be told of the receivers in its collector. The
// receiver looks for it among the host's extensions when it starts.
type StatsRegistry interface {
	// RegisterStats adds a receiver. stats may be called from any goroutine until unregister
	// was called.
	RegisterStats(id component.ID, stats func() Stats) (unregister func())
}
