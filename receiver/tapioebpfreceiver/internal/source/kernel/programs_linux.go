// Copyright The otelcol-tapio Authors
// SPDX-License-Identifier: Apache-2.0

//go:build amd64 || arm64

package kernel // import "github.com/tapio-io/otelcol-tapio/receiver/tapioebpfreceiver/internal/source/kernel"

import (
	"slices"

	"github.com/cilium/ebpf"

	"github.com/tapio-io/otelcol-tapio/bpf"
)

// An object is a file of programs, which may serve several families of events: one packet is looked
// at once.
type object struct {
	name string
	load func() (*ebpf.CollectionSpec, error)
	// families by program; in an object of one family, all are its.
	families []string
	usedBy   map[string][]string
	// wants, where set, says whether a program has something to do.
	wants func(program string, options Options, features kernelFeatures) bool
	// calls are its programs for system calls; nil: it has none.
	calls *callPrograms
}

func (o object) isOfCalls(program string) bool {
	return o.calls != nil && slices.Contains(o.calls.names(), program)
}

const (
	familyProcess  = "process"
	familyNetwork  = "network"
	familyDNS      = "dns"
	familyHTTP     = "http"
	familySecurity = "security"
	familyCNI      = "cni"
	familyEtcd     = "etcd"
	familyCgroup   = "cgroup" // always wanted: whose a process is
)

// objects in the order of their loading, and so of their programs at a hook: that a program was started as a
// plugin is known before what else is said of its start.
var objects = []object{
	{name: "cni", load: bpf.LoadCNI, families: []string{familyCNI}, wants: wantsCNIProgram, calls: cniCalls},
	{name: "process", load: bpf.LoadProcess, families: []string{familyProcess}},
	{name: "network", load: bpf.LoadNetwork, families: []string{familyNetwork, familyDNS, familyHTTP}, wants: wantsNetworkProgram, usedBy: map[string][]string{
		"tcp_state_changed":         {familyNetwork, familyDNS, familyHTTP},
		"tcp_state_missed":          {familyNetwork, familyDNS, familyHTTP},
		"tcp_read":                  {familyNetwork, familyDNS, familyHTTP}, // who owns a socket
		"packet_sent":               {familyNetwork, familyDNS, familyHTTP},
		"packet_received":           {familyNetwork, familyDNS, familyHTTP},
		"socket_created":            {familyNetwork, familyDNS},
		"socket_released":           {familyNetwork},
		"find_sockets":              {familyNetwork, familyDNS, familyHTTP},
		"report_sockets":            {familyNetwork, familyHTTP},
		"report_sockets_by_address": {familyNetwork, familyHTTP},
		"report_flows":              {familyNetwork},
		"reap_exchanges":            {familyHTTP},
		"reap_handshakes":           {familyNetwork},
		"report_by_file":            {familyNetwork, familyHTTP},
	}},
	{name: "security", load: bpf.LoadSecurity, families: []string{familySecurity}, wants: wantsSecurityProgram, calls: securityCalls},
	{name: "etcd", load: bpf.LoadEtcd, families: []string{familyEtcd}, calls: etcdCalls},
	{name: "cgroup", load: bpf.LoadCgroup, families: []string{familyCgroup}},
	{name: "executable", load: bpf.LoadExecutable, families: []string{familyCgroup}},
}

// familiesOf a program are those of the wanted ones that need it.
func (o object) familiesOf(program string, wanted []string) []string {
	serves := o.families
	if o.usedBy != nil {
		serves = o.usedBy[program]
	}
	return slices.DeleteFunc(slices.Clone(serves), func(family string) bool { return !slices.Contains(wanted, family) })
}

// wantsNetworkProgram says whether a program has something to do, for the families that it is of.
func wantsNetworkProgram(name string, options Options, _ kernelFeatures) bool {
	return name != "reap_handshakes" || options.followsHandshakes()
}

// readersOfStreams are the programs in which the reading of HTTP and TLS is.
var readersOfStreams = []string{"packet_sent", "packet_received", "tcp_state_changed", "tcp_state_missed"}

// sharedMaps exist once for all objects.
var sharedMaps = []string{
	"lifecycle_ring", "traffic_ring", "event_counts", "limits", "scope_cgroups", "scope_verdicts",
	"sums_turn", "http_sums_0", "http_sums_1", "http_cgroup_sums_0", "http_cgroup_sums_1",
	"connection_sums_0", "connection_sums_1", "connection_cgroup_sums_0", "connection_cgroup_sums_1",
	"tls_sums_0", "tls_sums_1", "tls_cgroup_sums_0", "tls_cgroup_sums_1", "process_sums_0", "process_sums_1",
}

// An iterator is run by us, not by an event in the kernel.
type iterator struct {
	overMap string // the map whose elements it visits; empty: none
	once    bool   // at the start only, not at the report interval
	reaps   bool   // run after the others
	asked   bool   // run when what it says is asked for
	// onlyIf, where set, chooses between iterators that do the same in different ways.
	onlyIf func(kernelFeatures) bool
}

// understudies do what another program at the same hook was left out for.
var understudies = map[string]string{
	"process_start_missed": "process_started",
	"process_fork_missed":  "process_forked",
	"process_exit_missed":  "process_exited",
	"tcp_state_missed":     "tcp_state_changed",
	"plugin_start_missed":  "plugin_started",
	"plugin_exit_missed":   "plugin_exited",
	"etcd_start_missed":    "etcd_started",
	"etcd_end_missed":      "etcd_ended",
}

// iterators by program name.
var iterators = map[string]iterator{
	"find_sockets":              {once: true},
	"find_etcds":                {once: true},
	"list_executables":          {asked: true},
	"report_sockets":            {overMap: "sockets", onlyIf: func(f kernelFeatures) bool { return f.mapIterators && f.socketStorage }},
	"report_sockets_by_address": {overMap: "sockets_by_address", onlyIf: func(f kernelFeatures) bool { return f.mapIterators && !f.socketStorage }},
	"report_flows":              {overMap: "flows", onlyIf: hasMapIterators},
	"reap_exchanges":            {overMap: "http_slots", onlyIf: hasMapIterators, reaps: true},
	"reap_handshakes":           {overMap: "tls_slots", onlyIf: hasMapIterators, reaps: true},
	"report_by_file":            {onlyIf: func(f kernelFeatures) bool { return !f.mapIterators }},
}

// kernelFeatures are what programs are told of the kernel before they are loaded.
type kernelFeatures struct {
	socketStorage bool // tracing programs may use socket storage (Linux 5.11)
	mapIterators  bool // iterators over maps are not refused, as hardened kernels do
	functions     bool // programs may be at the entry and exit of the kernel's functions (fentry, fexit)
	exchange      bool // programs may exchange a word in one step (Linux 5.12; arm64: 5.18)
	currentIDs    bool // programs of packets may ask for the current process and thread (Linux 6.10)
}

func hasMapIterators(f kernelFeatures) bool { return f.mapIterators }
