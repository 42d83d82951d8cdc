// Copyright The otelcol-tapio Authors
// SPDX-License-Identifier: Apache-2.0

//go:build amd64 || arm64

package kernel // import "github.com/tapio-io/otelcol-tapio/receiver/tapioebpfreceiver/internal/source/kernel"

import (
	"errors"
	"fmt"

	"github.com/cilium/ebpf"
	"golang.org/x/sys/unix"

	"github.com/tapio-io/otelcol-tapio/bpf"
)

var etcdCalls = &callPrograms{
	entered: "etcd_call_entered", left: "etcd_call_left",
	anyEntered: "etcd_any_call_entered", anyLeft: "etcd_any_call_left",
	calls:       callsOfEtcd,
	mayWatchAll: func(options Options) bool { return options.Etcd.SyscallTracepoints },
	key:         "families::etcd::syscall_tracepoints",
}

// callsOfEtcd are those by which etcd, which does not use io_uring, writes to its files and syncs them.
func callsOfEtcd(Options, func(program string) bool) []call {
	return []call{
		{name: "fsync", number: unix.SYS_FSYNC, does: uint16(bpf.WireEtcdOperationETCD_FSYNC), before: true},
		{name: "fdatasync", number: unix.SYS_FDATASYNC, does: uint16(bpf.WireEtcdOperationETCD_FDATASYNC), before: true},
		{name: "write", number: unix.SYS_WRITE, does: uint16(bpf.WireEtcdOperationETCD_WRITE), before: true},
		{name: "pwrite64", number: unix.SYS_PWRITE64, does: uint16(bpf.WireEtcdOperationETCD_PWRITE), before: true},
		{name: "writev", number: unix.SYS_WRITEV, does: uint16(bpf.WireEtcdOperationETCD_WRITEV), before: true},
		{name: "pwritev", number: unix.SYS_PWRITEV, does: uint16(bpf.WireEtcdOperationETCD_PWRITEV), before: true},
	}
}

// fill tells the programs which executables are etcd.
func (o *EtcdOptions) fill(m *ebpf.Map) error {
	for _, name := range o.Executables {
		var key [MaxEtcdExecutableBytes + 2]byte // struct executable
		copy(key[:], name)
		if err := m.Put(key, uint8(1)); err != nil {
			return fmt.Errorf("fill map etcd_executables with %q: %w", name, err)
		}
	}
	return nil
}

// reportConnectionsOfEtcd says where they are not to be seen: they are from another family's events.
func (s *Source) reportConnectionsOfEtcd() {
	if s.wants(familyEtcd) && !s.wants(familyNetwork) {
		s.reportHook([]string{familyEtcd}, "connections", errors.New("families::network is off, whose events they are: etcd's connections and what they carry are not counted"))
	}
}
