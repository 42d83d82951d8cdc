// Copyright The otelcol-tapio Authors
// SPDX-License-Identifier: Apache-2.0

//go:build amd64 || arm64

package kernel // import "github.com/tapio-io/otelcol-tapio/receiver/tapioebpfreceiver/internal/source/kernel"

import (
	"errors"
	"fmt"
	"maps"
	"os"
	"slices"

	"github.com/cilium/ebpf"
	"github.com/cilium/ebpf/btf"

	"github.com/tapio-io/otelcol-tapio/bpf"
)

// fallbackSockets is how many sockets are followed where the kernel cannot keep our state with
// each socket itself.
const fallbackSockets = 65536

// lifecycleShare is how much smaller the ring of lifecycle records is: processes start at a small
// fraction of the rate at which they send.
const lifecycleShare = 8

// minLifecycleRing has room for a few of the largest records, and is a page where pages are largest.
const minLifecycleRing = 64 << 10

// wakeUpShare of a ring must be filled before the reader is woken ahead of its interval.
const wakeUpShare = 4

// program is one loaded program and where it belongs.
type program struct {
	family  string
	name    string
	spec    *ebpf.ProgramSpec
	program *ebpf.Program
	maps    map[string]*ebpf.Map // of its object
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
	report    func(family, hook string, err error)
}

// detectFeatures asks by loading a program that uses what is in question: this kernel's version
// says little, since distributions carry features back.
func detectFeatures() (kernelFeatures, error) {
	spec, err := bpf.LoadNetwork()
	if err != nil {
		return kernelFeatures{}, fmt.Errorf("read the object of family network: %w", err)
	}
	const asking = "tcp_read" // compiled with has_socket_storage set
	spec.Programs = map[string]*ebpf.ProgramSpec{asking: spec.Programs[asking]}
	collection, err := ebpf.NewCollection(spec)
	if err != nil {
		return kernelFeatures{socketStorage: false}, nil
	}
	collection.Close()
	return kernelFeatures{socketStorage: true}, nil
}

func (s *Source) newLoader(features kernelFeatures, self uint32) *loader {
	return &loader{
		constants: map[string]any{
			"whole_node":         s.scope.wholeNode,
			"self_pid":           self,
			"max_argument_bytes": s.options.MaxArgumentBytes,
			"page_size":          uint32(os.Getpagesize()),
			"report_interval":    uint64(s.options.ReportInterval),
			"has_socket_storage": features.socketStorage,
			"wakeup_bytes":       uint64(s.options.RingSize / wakeUpShare), // of the traffic ring: the reader waits for that one
		},
		types:  btf.NewCache(),
		shared: map[string]*ebpf.Map{},
		report: s.reportHook,
	}
}

// loadFamily returns the programs that the kernel took.
func (l *loader) loadFamily(name string, load func() (*ebpf.CollectionSpec, error), options Options, features kernelFeatures) ([]program, error) {
	spec, err := load()
	if err != nil {
		return nil, fmt.Errorf("read the object of family %s: %w", name, err)
	}
	if err := l.setConstants(spec); err != nil {
		return nil, fmt.Errorf("family %s: %w", name, err)
	}
	sizeMaps(spec, options, features)
	objectMaps, err := l.createMaps(spec)
	if err != nil {
		return nil, fmt.Errorf("family %s: %w", name, err)
	}
	var loaded []program
	for _, programName := range programOrder(spec) {
		if it, ok := iterators[programName]; ok && it.onlyIf != nil && !it.onlyIf(features) {
			continue
		}
		p := program{family: name, name: programName, spec: spec.Programs[programName], maps: objectMaps}
		if p.program, err = l.loadProgram(spec, programName, objectMaps); err != nil {
			l.report(name, p.hook(), err)
			continue
		}
		loaded = append(loaded, p)
	}
	return loaded, nil
}

// programOrder has the iterators last: what happens while they run is then seen by the hooks.
func programOrder(spec *ebpf.CollectionSpec) []string {
	isIterator := func(name string) bool { _, ok := iterators[name]; return ok }
	names := slices.Sorted(maps.Keys(spec.Programs))
	return slices.Concat(slices.DeleteFunc(slices.Clone(names), isIterator),
		slices.DeleteFunc(names, func(name string) bool { return !isIterator(name) }))
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
		ring.MaxEntries = max(options.RingSize/lifecycleShare, minLifecycleRing)
	}
	if sockets, ok := spec.Maps["sockets_by_address"]; ok && !features.socketStorage {
		sockets.MaxEntries = fallbackSockets
	}
}

// createMaps makes the object's maps, but for the shared ones that an earlier object made.
func (l *loader) createMaps(spec *ebpf.CollectionSpec) (map[string]*ebpf.Map, error) {
	created := map[string]*ebpf.Map{}
	for name, mapSpec := range spec.Maps {
		if isData(name) {
			continue // made with the program that uses it
		}
		if shared, ok := l.shared[name]; ok {
			created[name] = shared
			continue
		}
		m, err := ebpf.NewMap(mapSpec)
		if err != nil {
			return nil, fmt.Errorf("create map %s: %w", name, err)
		}
		l.opened = append(l.opened, m)
		created[name] = m
		if slices.Contains(sharedMaps, name) {
			l.shared[name] = m
		}
	}
	return created, nil
}

func isData(mapName string) bool { return mapName[0] == '.' }

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
	var errs []error
	for _, o := range slices.Backward(l.opened) {
		errs = append(errs, o.Close())
	}
	l.opened = nil
	return errors.Join(errs...)
}

// ownPID asks the kernel for the pid that programs will see for this process: in a container it is
// not the one of os.Getpid.
func ownPID() (uint32, error) {
	var objects bpf.WirePrograms
	if err := bpf.LoadWireObjects(&objects, nil); err != nil {
		return 0, fmt.Errorf("load the first eBPF program: %w", err)
	}
	defer objects.Close()
	pid, err := objects.OwnPid.Run(&ebpf.RunOptions{})
	if err != nil {
		return 0, fmt.Errorf("run the first eBPF program: %w", err)
	}
	return pid, nil
}
