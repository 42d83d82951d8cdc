// Copyright The otelcol-tapio Authors
// SPDX-License-Identifier: Apache-2.0

//go:build amd64 || arm64

package kernel // import "github.com/tapio-io/otelcol-tapio/receiver/tapioebpfreceiver/internal/source/kernel"

import (
	"github.com/cilium/ebpf"

	"github.com/tapio-io/otelcol-tapio/bpf"
)

// families lists the objects by the family that they serve, in the order of their loading.
var families = []struct {
	name string
	load func() (*ebpf.CollectionSpec, error)
}{
	{"process", bpf.LoadProcess},
	{"network", bpf.LoadNetwork},
}

// sharedMaps exist once for all objects.
var sharedMaps = []string{"lifecycle_ring", "traffic_ring", "event_counts", "scope_cgroups", "scope_verdicts"}

// An iterator is run by us, not by an event in the kernel.
type iterator struct {
	overMap string // the map whose elements it visits; empty: none
	once    bool   // at the start only, not at the report interval
	// onlyIf, where set, chooses between iterators that do the same in different ways.
	onlyIf func(kernelFeatures) bool
}

// iterators by program name.
var iterators = map[string]iterator{
	"find_sockets":              {once: true},
	"report_sockets":            {overMap: "sockets", onlyIf: hasSocketStorage},
	"report_sockets_by_address": {overMap: "sockets_by_address", onlyIf: lacksSocketStorage},
	"report_flows":              {overMap: "flows"},
}

// kernelFeatures are what programs are told of the kernel before they are loaded.
type kernelFeatures struct {
	socketStorage bool // tracing programs may use socket storage (Linux 5.11)
}

func hasSocketStorage(f kernelFeatures) bool   { return f.socketStorage }
func lacksSocketStorage(f kernelFeatures) bool { return !f.socketStorage }
