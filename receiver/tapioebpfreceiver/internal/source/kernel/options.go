// Copyright The otelcol-tapio Authors
// SPDX-License-Identifier: Apache-2.0

// Package kernel is the source of real events: it loads the eBPF programs, finds out which of them
// this kernel supports, attaches these, and reads what they send.
package kernel // import "github.com/tapio-io/otelcol-tapio/receiver/tapioebpfreceiver/internal/source/kernel"

import "time"

// Name is what the source's resources carry as tapio.source.
const Name = "ebpf"

// Options say what to observe.
type Options struct {
	// Families are the event families to load: "process", "network", "dns", "http", "security", "cni", "etcd".
	Families []string
	// Cgroups are the cgroup v2 paths, below the mount, whose tasks and sockets are in scope;
	// none: the whole node.
	Cgroups []string
	// RingSize is the size of the ring for traffic in bytes, a power of two; the ring for lifecycle
	// records has an eighth of it, and at least 64 KiB.
	RingSize uint32
	// RateLimits are how many events a second a cgroup may make, by family; families without are not limited.
	// They are told one by one up to these; what is beyond is counted, and is told at intervals.
	RateLimits map[string]uint64
	// FlushInterval is how long a record may wait in a ring.
	FlushInterval time.Duration
	// MaxArgumentBytes of a process's arguments are read; 0: none.
	MaxArgumentBytes uint32
	// ReportInterval is how often a connection that lasts is reported.
	ReportInterval time.Duration
	// TLSHandshakes says whether handshakes of TLS are reported. It takes the family network.
	TLSHandshakes bool
	// DNSPorts are those of the servers whose clients are observed.
	DNSPorts []uint16
	// DNSTimeout is how long a query may go unanswered.
	DNSTimeout time.Duration
	// MaxInFlight HTTP exchanges are followed at a time, each end counted.
	MaxInFlight uint32
	// ResponseHeads says whether the heads of HTTP responses are in the records, too.
	ResponseHeads bool
	// Causes says whether it is found out which request a process was serving when it sent something.
	// It takes the family http.
	Causes bool
	// Security says what the family security reports.
	Security SecurityOptions
	// CNI says what the family cni reports.
	CNI CNIOptions
	// Etcd says what the family etcd observes.
	Etcd EtcdOptions
}

// EtcdOptions say which processes are etcd.
type EtcdOptions struct {
	// Executables are the file names of its programs: at most MaxEtcdExecutables, each of at most
	// MaxEtcdExecutableBytes.
	Executables []string
	// SyscallTracepoints is as that of SecurityOptions.
	SyscallTracepoints bool
}

// Limits of EtcdOptions.
const (
	MaxEtcdExecutables     = 64 // max_entries of etcd_executables, bpf/etcd.bpf.c
	MaxEtcdExecutableBytes = 62 // MAX_EXECUTABLE_BYTES without NUL, and one more: a name that is cut off is none of these
)
