// Copyright The otelcol-tapio Authors
// SPDX-License-Identifier: Apache-2.0

//go:build amd64 || arm64

package kernel // import "github.com/tapio-io/otelcol-tapio/receiver/tapioebpfreceiver/internal/source/kernel"

import (
	"cmp"
	"errors"
	"fmt"
	"maps"
	"os"
	"slices"
	"time"

	"github.com/cilium/ebpf"
	"github.com/cilium/ebpf/asm"
	"github.com/cilium/ebpf/btf"
	"golang.org/x/sys/unix"

	"github.com/tapio-io/otelcol-tapio/bpf"
	"github.com/tapio-io/otelcol-tapio/receiver/tapioebpfreceiver/internal/event"
)

// fallbackSockets is how many sockets are followed where the kernel cannot keep our state with
// each socket itself.
const fallbackSockets = 65536

// How many processes and threads that serve requests are known. Of more, those that have not served for
// longest are forgotten, and are known again when they serve.
const (
	servingProcesses = 8192
	servingThreads   = 16384
)

// tlsHandshakes are followed at a time, each end counted: bpf/tls.h has 6.3 KiB for each.
const tlsHandshakes = 1024

// idleWatch is how long a process must have been seen to serve nothing, and to send nothing then, until
// what it sends while it serves one request is told to be for that. Tests have less time.
var idleWatch = 10 * time.Second

// lifecycleShare is how much smaller the ring of lifecycle records is: processes start at a small
// fraction of the rate at which they send.
const lifecycleShare = 8

// minLifecycleRing has room for a few of the largest records, and is a page where pages are largest.
const minLifecycleRing = 64 << 10

func lifecycleSize(options Options) uint32 {
	return max(options.RingSize/lifecycleShare, minLifecycleRing)
}

// wakeUpShare of a ring must be filled before the reader is woken ahead of its interval.
const wakeUpShare = 4

// program is one loaded program and where it belongs.
type program struct {
	families []string // of those that are wanted, the ones that need it
	name     string
	spec     *ebpf.ProgramSpec
	program  *ebpf.Program
	maps     map[string]*ebpf.Map // of its object
}

// hook is the program's name in the capability report.
func (p program) hook() string {
	if it := iterators[p.name]; it.overMap != "" {
		return p.spec.SectionName + ":" + it.overMap
	}
	return p.spec.SectionName
}

// loader loads objects program by program, so that one that the kernel refuses costs only itself.
type loader struct {
	constants map[string]any
	types     *btf.Cache // the kernel's own, decoded once for all programs
	shared    map[string]*ebpf.Map
	opened    []interface{ Close() error }
	loaded    map[string]bool // programs, by name
	sensitive *sensitiveSet
	barrier   *ebpf.Map // see awaitPrograms
	within    *ebpf.Map
	watch     *ebpf.Map // see bpf/watch.h; nil: no object has it
	report    func(families []string, hook string, err error)
}

// detectFeatures asks by loading programs that use what is in question: this kernel's version says
// little, since distributions carry features back, and take others out.
func detectFeatures(types *btf.Cache) (kernelFeatures, error) {
	spec, err := bpf.LoadNetwork()
	if err != nil {
		return kernelFeatures{}, fmt.Errorf("read object network: %w", err)
	}
	common, err := bpf.LoadWire()
	if err != nil {
		return kernelFeatures{}, fmt.Errorf("read object common: %w", err)
	}
	return kernelFeatures{
		socketStorage: canLoad(spec, "tcp_read", types), // compiled with has_socket_storage set
		mapIterators:  canLoadMapIterator(types),
		exchange:      canLoad(common, "exchange_words", types),
		currentIDs:    packetsKnowTheProcess(types),
		functions:     canWatchFunctions(),
	}, nil
}

// checkReading returns an error where the kernel lets no program read what is not its own. A few would be attached all the
// same, those that need not, but none of them makes an event.
func checkReading() error {
	program, err := ebpf.NewProgram(&ebpf.ProgramSpec{Type: ebpf.RawTracepoint, License: "Dual BSD/GPL", Instructions: asm.Instructions{
		asm.Mov.Reg(asm.R1, asm.RFP),
		asm.Add.Imm(asm.R1, -8),
		asm.Mov.Imm(asm.R2, 8),
		asm.Mov.Imm(asm.R3, 0),
		asm.FnProbeReadKernel.Call(),
		asm.Mov.Imm(asm.R0, 0),
		asm.Return(),
	}})
	if isDenied(err) {
		return fmt.Errorf("load a program that reads the kernel's memory: %w", err)
	}
	if err != nil {
		return fmt.Errorf("this kernel lets no program read its memory, without which nothing can be seen: %s; it is so with lockdown=confidentiality, not with lockdown=integrity; check with: cat /sys/kernel/security/lockdown; dmesg | grep Lockdown; %s", reasonOf(err), tryWithout)
	}
	return program.Close()
}

func canLoad(spec *ebpf.CollectionSpec, program string, types *btf.Cache) bool {
	one := spec.Copy()
	one.Programs = map[string]*ebpf.ProgramSpec{program: one.Programs[program]}
	collection, err := ebpf.NewCollectionWithOptions(one, ebpf.CollectionOptions{Cache: types})
	if err != nil {
		return false
	}
	collection.Close()
	return true
}

func canLoadMapIterator(types *btf.Cache) bool {
	const name = "visit"
	return canLoad(&ebpf.CollectionSpec{Programs: map[string]*ebpf.ProgramSpec{name: {
		Type: ebpf.Tracing, AttachType: ebpf.AttachTraceIter, AttachTo: "bpf_map_elem", License: "Dual BSD/GPL",
		Instructions: asm.Instructions{asm.Mov.Imm(asm.R0, 0), asm.Return()},
	}}}, name, types)
}

// packetsKnowTheProcess says whether programs of packets may ask for the current process.
func packetsKnowTheProcess(types *btf.Cache) bool {
	const name = "ask"
	return canLoad(&ebpf.CollectionSpec{Programs: map[string]*ebpf.ProgramSpec{name: {
		Type: ebpf.CGroupSKB, AttachType: ebpf.AttachCGroupInetEgress, License: "Dual BSD/GPL",
		Instructions: asm.Instructions{asm.FnGetCurrentPidTgid.Call(), asm.Mov.Imm(asm.R0, 1), asm.Return()},
	}}}, name, types)
}

// withoutExchange puts r0 = 0 in the place of each exchange of a word (bpf/atomic.h), which kernels
// that do not know it refuse also where it is never reached.
func withoutExchange(spec *ebpf.CollectionSpec) {
	for _, program := range spec.Programs {
		for i := range program.Instructions {
			old := &program.Instructions[i]
			if op := old.OpCode.AtomicOp(); op == asm.Xchg || op == asm.CmpXchg {
				*old = asm.Mov.Imm(asm.R0, 0).WithMetadata(old.Metadata)
			}
		}
	}
}

// followsCauses says whether it is found out what is sent for which request.
func (o *Options) followsCauses() bool { return o.Causes && slices.Contains(o.Families, familyHTTP) }

// followsHandshakes says whether handshakes of TLS are reported.
func (o *Options) followsHandshakes() bool {
	return o.TLSHandshakes && slices.Contains(o.Families, familyNetwork)
}

func (s *Source) newLoader(features kernelFeatures, self uint32, types *btf.Cache) *loader {
	return &loader{
		constants: map[string]any{
			"whole_node":          s.scope.wholeNode,
			"self_pid":            self,
			"max_argument_bytes":  s.options.MaxArgumentBytes,
			"page_size":           uint32(os.Getpagesize()),
			"report_interval":     uint64(s.options.ReportInterval),
			"has_socket_storage":  features.socketStorage,
			"has_exchange":        features.exchange,
			"has_current_ids":     features.currentIDs,
			"network_enabled":     slices.Contains(s.options.Families, familyNetwork),
			"http_enabled":        slices.Contains(s.options.Families, familyHTTP),
			"http_response_heads": s.options.ResponseHeads,
			"max_in_flight":       s.options.MaxInFlight,
			"tls_enabled":         s.options.followsHandshakes(),
			"causes_enabled":      s.options.followsCauses(),
			"idle_watch":          uint64(idleWatch),
			"dns_enabled":         slices.Contains(s.options.Families, familyDNS),
			"dns_ports":           paddedPorts(s.options.DNSPorts),
			"dns_port_count":      uint32(len(s.options.DNSPorts)),
			"dns_timeout":         uint64(s.options.DNSTimeout),
			"limit_intervals":     limitIntervals(s.options.RateLimits),
			"duration_bounds":     httpSumBounds(event.DurationBounds, float64(time.Second)),
			"body_bounds":         httpSumBounds(event.BodyBounds, 1),
			"handshake_bounds":    connectionSumBounds(event.RoundTripBounds, float64(time.Second)),
			"lifetime_bounds":     connectionSumBounds(event.LifetimeBounds, float64(time.Second)),
			"rtt_bounds":          connectionSumBounds(event.RoundTripBounds, 1e6),

			"traffic_wakeup_bytes":   uint64(s.options.RingSize / wakeUpShare),
			"lifecycle_wakeup_bytes": uint64(lifecycleSize(s.options) / wakeUpShare),

			"enabled_kinds":         uint32(bitsOf(s.options.Security.Kinds)),
			"reported_capabilities": bitsOf(s.options.Security.Capabilities),
			"sensitive_filter":      s.sensitive.filter,
			"sensitive_lengths":     s.sensitive.lengths,
			"sensitive_ends":        s.sensitive.ends,
			"tail_depths":           s.sensitive.tailDepths,
			"below_depths":          s.sensitive.belowDepths,
		},
		types:     types,
		shared:    map[string]*ebpf.Map{},
		loaded:    map[string]bool{},
		sensitive: &s.sensitive,
		report:    s.reportHook,
	}
}

// maxDNSPorts is MAX_DNS_PORTS of bpf/dns.h.
const maxDNSPorts = 16

func paddedPorts(ports []uint16) (padded [maxDNSPorts]uint16) {
	copy(padded[:], ports)
	return padded
}

// refusal is a program that the kernel did not take.
type refusal struct {
	program program
	err     error
}

// loadObject returns the programs that the kernel took, for the families that are wanted. Reading
// HTTP and TLS is by far the most that a verifier is asked to follow: where that is refused, the others
// are not to go without their packets.
func (l *loader) loadObject(o object, options Options, features kernelFeatures) ([]program, error) {
	before := len(l.opened)
	loaded, refused, err := l.tryObject(o, options, features)
	if err != nil {
		return nil, err
	}
	others := slices.DeleteFunc(slices.Clone(options.Families), func(family string) bool { return family == familyHTTP })
	if tooMuch := slices.DeleteFunc(slices.Clone(refused), options.needsNoStreams); len(tooMuch) > 0 && slices.ContainsFunc(o.families, contains(others)) {
		l.watch = nil
		if err := l.closeSince(before); err != nil {
			return nil, err
		}
		for _, r := range tooMuch {
			l.reportStreams(options, r)
		}
		l.constants["http_enabled"], l.constants["tls_enabled"] = false, false
		options.Families, options.TLSHandshakes = others, false
		if loaded, refused, err = l.tryObject(o, options, features); err != nil {
			return nil, err
		}
	}
	for _, r := range refused {
		l.report(r.program.families, r.program.hook(), r.err)
	}
	return loaded, nil
}

// needsNoStreams says that reading HTTP or TLS is not what was refused.
func (o *Options) needsNoStreams(r refusal) bool {
	return !slices.Contains(o.Families, familyHTTP) && !o.followsHandshakes() || !slices.Contains(readersOfStreams, r.program.name)
}

// reportStreams says what goes on without a program.
func (l *loader) reportStreams(options Options, r refusal) {
	if slices.Contains(options.Families, familyHTTP) {
		l.report([]string{familyHTTP}, r.program.hook(), r.err)
	}
	if options.followsHandshakes() {
		l.report([]string{familyNetwork}, r.program.hook()+":tls_handshakes", r.err)
	}
}

func contains(families []string) func(string) bool {
	return func(family string) bool { return slices.Contains(families, family) }
}

func (l *loader) tryObject(o object, options Options, features kernelFeatures) (loaded []program, refused []refusal, err error) {
	spec, err := o.load()
	if err != nil {
		return nil, nil, fmt.Errorf("read object %s: %w", o.name, err)
	}
	if err := l.setConstants(spec); err != nil {
		return nil, nil, fmt.Errorf("object %s: %w", o.name, err)
	}
	if !features.exchange {
		withoutExchange(spec)
	}
	if err := l.renameTargets(spec); err != nil {
		return nil, nil, fmt.Errorf("object %s: %w", o.name, err)
	}
	sizeMaps(spec, options, features)
	l.sizeSecurityMaps(spec, o, options, features)
	objectMaps, err := l.createMaps(spec)
	if err != nil {
		return nil, nil, fmt.Errorf("object %s: %w", o.name, err)
	}
	for name, first := range map[string]uint32{"http_free": 0, "http_own": options.MaxInFlight, "tls_free": 0} {
		if err := fillFreeSlots(name, objectMaps[name], first); err != nil {
			return nil, nil, fmt.Errorf("object %s: %w", o.name, err)
		}
	}
	if paths, ok := objectMaps["sensitive_paths"]; ok {
		if err := l.sensitive.fill(paths); err != nil {
			return nil, nil, err
		}
	}
	if dirs, ok := objectMaps["plugin_dirs"]; ok {
		if err := fillPluginDirs(dirs, options.CNI); err != nil {
			return nil, nil, err
		}
	}
	if executables, ok := objectMaps["etcd_executables"]; ok {
		if err := options.Etcd.fill(executables); err != nil {
			return nil, nil, err
		}
	}
	for _, name := range programOrder(spec) {
		if o.isOfCalls(name) || o.wants != nil && !o.wants(name, options, features) {
			continue
		}
		p := program{families: o.familiesOf(name, options.Families), name: name, spec: spec.Programs[name], maps: objectMaps}
		if it, ok := iterators[name]; len(p.families) == 0 || ok && it.onlyIf != nil && !it.onlyIf(features) {
			continue
		}
		if p.program, err = l.loadProgram(spec, name, objectMaps); err != nil {
			refused = append(refused, refusal{p, err})
			continue
		}
		l.loaded[name] = true
		loaded = append(loaded, p)
	}
	if o.calls == nil {
		return loaded, refused, nil
	}
	ofCalls, err := l.loadCalls(o, spec, objectMaps, options, features)
	return append(loaded, ofCalls...), refused, err
}

func (l *loader) sizeSecurityMaps(spec *ebpf.CollectionSpec, o object, options Options, features kernelFeatures) {
	if buffers, ok := spec.Maps["security_buffers"]; ok && features.functions {
		for _, c := range o.calls.calls(options, func(string) bool { return false }) {
			if c.buffered {
				buffers.MaxEntries++
			}
		}
	}
	if paths, ok := spec.Maps["sensitive_paths"]; ok {
		paths.MaxEntries = max(1, uint32(len(l.sensitive.numbers)))
	}
}

// fillFreeSlots has the numbers of slots for HTTP exchanges or TLS handshakes, from first on; the lowest is used
// first, so that few are touched where few are needed.
func fillFreeSlots(name string, free *ebpf.Map, first uint32) error {
	if free == nil {
		return nil
	}
	for slot := range free.MaxEntries() {
		if err := free.Put(nil, first+free.MaxEntries()-1-slot); err != nil {
			return fmt.Errorf("fill map %s: %w", name, err)
		}
	}
	return nil
}

// programOrder has understudies behind those for which they stand in, and the iterators last: what
// happens while they run is then seen by the hooks. Of these, what ends exchanges is behind what finds
// out which are alive.
func programOrder(spec *ebpf.CollectionSpec) []string {
	rank := func(name string) int {
		it, isIterator := iterators[name]
		_, isUnderstudy := understudies[name]
		switch {
		case isUnderstudy:
			return 1
		case !isIterator:
			return 0
		case !it.reaps:
			return 2
		default:
			return 3
		}
	}
	return slices.SortedFunc(maps.Keys(spec.Programs), func(a, b string) int {
		return cmp.Or(cmp.Compare(rank(a), rank(b)), cmp.Compare(a, b))
	})
}

// setConstants sets those of our constants that the object has; each uses but a few.
func (l *loader) setConstants(spec *ebpf.CollectionSpec) error {
	for name, value := range l.constants {
		variable, ok := spec.Variables[name]
		if !ok {
			continue
		}
		if err := variable.Set(value); err != nil {
			return fmt.Errorf("set %s to %v: %w", name, value, err)
		}
	}
	return nil
}

func sizeMaps(spec *ebpf.CollectionSpec, options Options, features kernelFeatures) {
	if ring, ok := spec.Maps["traffic_ring"]; ok {
		ring.MaxEntries = options.RingSize
	}
	if ring, ok := spec.Maps["lifecycle_ring"]; ok {
		ring.MaxEntries = lifecycleSize(options)
	}
	sizeLimits(spec, options)
	if sockets, ok := spec.Maps["sockets_by_address"]; ok && !features.socketStorage {
		sockets.MaxEntries = fallbackSockets
	}
	if options.followsHandshakes() {
		sizeSlots(spec, tlsHandshakes, "tls_slots", "tls_free")
	}
	if !slices.Contains(options.Families, familyHTTP) {
		return
	}
	sizeSlots(spec, options.MaxInFlight, "http_free")
	sizeSlots(spec, options.ownSlots(), "http_own")
	sizeSlots(spec, options.MaxInFlight+options.ownSlots(), "http_slots")
	if !options.followsCauses() {
		return
	}
	for name, size := range map[string]uint32{"serving_processes": servingProcesses, "serving_threads": servingThreads} {
		if m, ok := spec.Maps[name]; ok {
			m.MaxEntries = size
		}
	}
}

// sizeLimits leaves the maps without room that no limit asks for.
func sizeLimits(spec *ebpf.CollectionSpec, options Options) {
	for name, need := range map[string]struct {
		size     uint32
		isNeeded bool
	}{
		"limits":           {maxLimited, len(options.RateLimits) > 0},
		"untold_processes": {untoldProcesses, options.RateLimits[familyProcess] > 0},
		"dns_fates":        {dnsFates, options.RateLimits[familyDNS] > 0},

		"http_sums_0":              {maxSums, options.RateLimits[familyHTTP] > 0},
		"http_sums_1":              {maxSums, options.RateLimits[familyHTTP] > 0},
		"http_cgroup_sums_0":       {maxCgroupSums, options.RateLimits[familyHTTP] > 0},
		"http_cgroup_sums_1":       {maxCgroupSums, options.RateLimits[familyHTTP] > 0},
		"connection_sums_0":        {maxSums, options.RateLimits[familyNetwork] > 0},
		"connection_sums_1":        {maxSums, options.RateLimits[familyNetwork] > 0},
		"connection_cgroup_sums_0": {maxCgroupSums, options.RateLimits[familyNetwork] > 0},
		"connection_cgroup_sums_1": {maxCgroupSums, options.RateLimits[familyNetwork] > 0},
		"tls_sums_0":               {maxSums, options.followsHandshakes() && options.RateLimits[familyNetwork] > 0},
		"tls_sums_1":               {maxSums, options.followsHandshakes() && options.RateLimits[familyNetwork] > 0},
		"tls_cgroup_sums_0":        {maxCgroupSums, options.followsHandshakes() && options.RateLimits[familyNetwork] > 0},
		"tls_cgroup_sums_1":        {maxCgroupSums, options.followsHandshakes() && options.RateLimits[familyNetwork] > 0},
		"process_sums_0":           {maxSums, options.RateLimits[familyProcess] > 0},
		"process_sums_1":           {maxSums, options.RateLimits[familyProcess] > 0},
	} {
		if m, ok := spec.Maps[name]; ok && need.isNeeded {
			m.MaxEntries = need.size
		}
	}
}

// ownSlots is how many connections may have a slot for HTTP exchanges to themselves, beside those that are taken
// for one exchange. The programs have 16 bits for a slot's number.
func (o *Options) ownSlots() uint32 {
	const ofInFlight, numbers = 8, 1 << 16
	return min(max(1, o.MaxInFlight/ofInFlight), numbers-o.MaxInFlight)
}

func sizeSlots(spec *ebpf.CollectionSpec, size uint32, names ...string) {
	for _, name := range names {
		if m, ok := spec.Maps[name]; ok {
			m.MaxEntries = size
		}
	}
}

// createMaps makes the object's maps, but for the shared ones that an earlier object made.
func (l *loader) createMaps(spec *ebpf.CollectionSpec) (map[string]*ebpf.Map, error) {
	created := map[string]*ebpf.Map{}
	for name, mapSpec := range spec.Maps {
		if isConstants(name) {
			continue // made with the program that uses them
		}
		if shared, ok := l.shared[name]; ok {
			created[name] = shared
			continue
		}
		if name == variables {
			mapSpec = mapSpec.Copy()
			mapSpec.Flags |= unix.BPF_F_MMAPABLE // as the library has it for those that it makes
		}
		m, err := ebpf.NewMap(mapSpec)
		if err != nil {
			return nil, fmt.Errorf("create map %s: %w", name, err)
		}
		if _, has := spec.Variables["watch"]; has && name == variables {
			l.watch = m
		}
		l.opened = append(l.opened, m)
		created[name] = m
		if slices.Contains(sharedMaps, name) {
			l.shared[name] = m
		}
	}
	return created, nil
}

// variables are what an object's programs and we can change: that in bpf/watch.h.
const variables = ".bss"

func isConstants(mapName string) bool { return mapName[0] == '.' && mapName != variables }

func (l *loader) loadProgram(spec *ebpf.CollectionSpec, name string, objectMaps map[string]*ebpf.Map) (*ebpf.Program, error) {
	one := spec.Copy()
	one.Programs = map[string]*ebpf.ProgramSpec{name: one.Programs[name]}
	collection, err := ebpf.NewCollectionWithOptions(one, ebpf.CollectionOptions{MapReplacements: objectMaps, Cache: l.types})
	if err != nil {
		return nil, fmt.Errorf("load program %s: %w", name, err)
	}
	defer collection.Close()
	loaded := collection.DetachProgram(name)
	l.opened = append(l.opened, loaded)
	return loaded, nil
}

func (l *loader) close() error {
	clear(l.shared)
	return l.closeSince(0)
}

// closeSince closes what was opened since there were n, but for the maps that other objects share.
func (l *loader) closeSince(n int) error {
	var errs []error
	kept := l.opened[:n:n]
	for _, o := range l.opened[n:] {
		if l.isShared(o) {
			kept = append(kept, o)
			continue
		}
		errs = append(errs, o.Close())
	}
	l.opened = kept
	return errors.Join(errs...)
}

func (l *loader) isShared(o interface{ Close() error }) bool {
	for _, m := range l.shared {
		if o == m {
			return true
		}
	}
	return false
}

// ownPID asks the kernel for the pid that programs will see for this process: in a container it is
// not the one of os.Getpid.
func ownPID() (uint32, error) {
	var objects struct {
		OwnPid *ebpf.Program `ebpf:"own_pid"` // the only one that is loaded
	}
	if err := bpf.LoadWireObjects(&objects, nil); err != nil {
		return 0, fmt.Errorf("load the first eBPF program: %w", err)
	}
	defer objects.OwnPid.Close()
	pid, err := objects.OwnPid.Run(&ebpf.RunOptions{})
	if err != nil {
		return 0, fmt.Errorf("run the first eBPF program: %w", err)
	}
	return pid, nil
}
