// Copyright The otelcol-tapio Authors
// SPDX-License-Identifier: Apache-2.0

//go:build amd64 || arm64

package kernel // import "github.com/tapio-io/otelcol-tapio/receiver/tapioebpfreceiver/internal/source/kernel"

import (
	"errors"
	"fmt"
	"strings"

	"github.com/cilium/ebpf"
	"github.com/cilium/ebpf/asm"
	"github.com/cilium/ebpf/btf"
	"github.com/cilium/ebpf/link"
)

// Forms of calls, as enum call_form of bpf/call.h has them.
const (
	formPath = 0
	formAt   = 1
	formFD   = 2
	formHow  = 3
	formMade = 4

	fixedBuffers = 5 // BUFFER_COUNT, bpf/security.h

	formShift = 8   // FORM_SHIFT, bpf/call.h
	maxCalls  = 512 // MAX_CALLS, bpf/call.h
)

// call is a system call that programs look at.
type call struct {
	name   string // as in the name of the kernel's function for it
	number int
	does   uint16 // a number of the family's own, not 0
	form   uint16
	// before says that what was there before it is looked at, too.
	before bool
	// buffered says that its record has texts, and is made in a buffer.
	buffered bool
	buffer   uint32 // its number, where it has a program to itself
}

func (c call) code() uint16 { return c.does | c.form<<formShift }

// callPrograms are an object's programs for calls: a pair that is loaded once for each of them, or a pair
// that sees all calls of the node.
type callPrograms struct {
	entered, left       string
	anyEntered, anyLeft string
	// calls that matter with these options; elsewhere says that programs in other places see some of them.
	calls func(options Options, elsewhere func(program string) bool) []call
	// mayWatchAll says whether all calls of the node may be looked at; key is that of the config which refuses it.
	mayWatchAll func(options Options) bool
	key         string
}

func (p callPrograms) names() []string { return []string{p.entered, p.left, p.anyEntered, p.anyLeft} }

// canWatchFunctions asks by attaching a program that does nothing to the exit of a call, since kernels that
// know such programs may refuse to attach them.
func canWatchFunctions() bool {
	program, err := ebpf.NewProgram(&ebpf.ProgramSpec{
		Type: ebpf.Tracing, AttachType: ebpf.AttachTraceFExit, AttachTo: callPrefix + "getpgid", License: "Dual BSD/GPL",
		Instructions: asm.Instructions{asm.Mov.Imm(asm.R0, 0), asm.Return()},
	})
	if err != nil {
		return false
	}
	defer program.Close()
	attached, err := link.AttachTracing(link.TracingOptions{Program: program})
	return err == nil && attached.Close() == nil
}

// loadCalls returns the programs for calls that the kernel took.
func (l *loader) loadCalls(o object, spec *ebpf.CollectionSpec, objectMaps map[string]*ebpf.Map, options Options, features kernelFeatures) (loaded []program, err error) {
	calls := o.calls.calls(options, l.isLoaded)
	if features.functions {
		if loaded, calls, err = l.loadEachCall(o, spec, objectMaps, calls); err != nil {
			return nil, err
		}
	}
	if len(calls) == 0 {
		return loaded, nil
	}
	if !o.calls.mayWatchAll(options) {
		l.report(o.families, "tp_btf/sys_exit", o.calls.offError(calls))
		return loaded, nil
	}
	ofAny, err := l.loadAnyCall(o, spec, objectMaps, calls)
	return append(loaded, ofAny...), err
}

func (p callPrograms) offError(calls []call) error {
	names := make([]string, len(calls))
	for i, c := range calls {
		names[i] = c.name
	}
	return fmt.Errorf("this kernel has no way to look at just the calls %s, and %s says not to look at all", strings.Join(names, ", "), p.key)
}

func (l *loader) isLoaded(program string) bool { return l.loaded[program] }

// loadEachCall loads a program of its own for each call. Those calls remain for which that cannot be done;
// one that this kernel does not have costs nothing.
func (l *loader) loadEachCall(o object, spec *ebpf.CollectionSpec, objectMaps map[string]*ebpf.Map, calls []call) (loaded []program, remaining []call, err error) {
	types, err := l.types.Kernel()
	if err != nil {
		return nil, nil, fmt.Errorf("read the kernel's types: %w", err)
	}
	buffers := uint32(fixedBuffers)
	for _, c := range calls {
		if c.buffered {
			c.buffer = buffers
			buffers++
		}
		if _, err := types.AnyTypesByName(callPrefix + c.name); errors.Is(err, btf.ErrNotFound) {
			continue
		}
		ofCall, err := l.loadOneCall(o, spec, objectMaps, c)
		if err != nil {
			remaining = append(remaining, c)
			continue
		}
		loaded = append(loaded, ofCall...)
	}
	return loaded, remaining, nil
}

// loadOneCall fails also where a kernel has two functions of the call's name, of which one is for kernels
// that are built without it: which to attach to cannot be told.
func (l *loader) loadOneCall(o object, spec *ebpf.CollectionSpec, objectMaps map[string]*ebpf.Map, c call) (loaded []program, err error) {
	for _, name := range []string{o.calls.left, o.calls.entered} {
		if name == o.calls.entered && !c.before {
			continue
		}
		one := spec.Copy()
		p := program{families: o.families, name: name + " " + c.name, spec: one.Programs[name], maps: objectMaps}
		p.spec.AttachTo = callPrefix + c.name
		p.spec.SectionName = sectionOf(p.spec)
		if err := one.Variables["only_call"].Set(c.code()); err != nil {
			return nil, fmt.Errorf("set only_call to %s: %w", c.name, err)
		}
		if err := one.Variables["only_buffer"].Set(c.buffer); err != nil {
			return nil, fmt.Errorf("set only_buffer of %s: %w", c.name, err)
		}
		if p.program, err = l.loadProgram(one, name, objectMaps); err != nil {
			return nil, err
		}
		loaded = append(loaded, p)
	}
	return loaded, nil
}

// renameTargets has programs attach to functions by the names that this kernel has for them.
func (l *loader) renameTargets(spec *ebpf.CollectionSpec) error {
	types, err := l.types.Kernel()
	if err != nil {
		return fmt.Errorf("read the kernel's types: %w", err)
	}
	for _, p := range spec.Programs {
		newName, ok := newNames[p.AttachTo]
		if !ok {
			continue
		}
		if _, err := types.AnyTypesByName(p.AttachTo); errors.Is(err, btf.ErrNotFound) {
			p.AttachTo = newName
			p.SectionName = sectionOf(p)
		}
	}
	return nil
}

func sectionOf(spec *ebpf.ProgramSpec) string {
	if spec.AttachType == ebpf.AttachTraceFEntry {
		return "fentry/" + spec.AttachTo
	}
	return "fexit/" + spec.AttachTo
}

// loadAnyCall loads the programs that see all calls, and tells them which matter.
func (l *loader) loadAnyCall(o object, spec *ebpf.CollectionSpec, objectMaps map[string]*ebpf.Map, calls []call) (loaded []program, err error) {
	var codes [maxCalls]uint16
	before := false
	for _, c := range calls {
		codes[c.number] = c.code()
		before = before || c.before
	}
	one := spec.Copy()
	if err := one.Variables["calls"].Set(codes); err != nil {
		return nil, fmt.Errorf("set calls: %w", err)
	}
	for _, name := range []string{o.calls.anyEntered, o.calls.anyLeft} {
		if name == o.calls.anyEntered && !before {
			continue
		}
		p := program{families: o.families, name: name, spec: one.Programs[name], maps: objectMaps}
		if p.program, err = l.loadProgram(one, name, objectMaps); err != nil {
			l.report(p.families, p.hook(), err)
			continue
		}
		loaded = append(loaded, p)
	}
	return loaded, nil
}
