// Copyright The otelcol-tapio Authors
// SPDX-License-Identifier: Apache-2.0

//go:build amd64 || arm64

package kernel // import "github.com/tapio-io/otelcol-tapio/receiver/tapioebpfreceiver/internal/source/kernel"

import (
	"errors"
	"fmt"

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
}

func (c call) code() uint16 { return c.does | c.form<<formShift }

// callPrograms are an object's programs for calls: a pair that is loaded once for each of them, or a pair
// that sees all calls of the node.
type callPrograms struct {
	entered, left       string
	anyEntered, anyLeft string
	// calls that matter with these options; elsewhere says that programs in other places see some of them.
	calls func(options Options, elsewhere func(program string) bool) []call
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
func (l *loader) loadCalls(o object, spec *ebpf.CollectionSpec, objectMaps map[string]*ebpf.Map, options Options, features kernelFeatures) ([]program, error) {
	if features.functions {
		return l.loadEachCall(o, spec, objectMaps, o.calls.calls(options, l.isLoaded))
	}
	calls := o.calls.calls(options, func(string) bool { return false })
	if !options.Security.SyscallTracepoints {
		l.report(o.families, "tp_btf/sys_exit", errCallsOff)
		return nil, nil
	}
	return l.loadAnyCall(o, spec, objectMaps, calls)
}

var errCallsOff = errors.New("this kernel has no way to look at single system calls, and families::security::syscall_tracepoints says not to look at all")

func (l *loader) isLoaded(program string) bool { return l.loaded[program] }

// loadEachCall loads a program of its own for each call. A call that this kernel does not have costs nothing.
func (l *loader) loadEachCall(o object, spec *ebpf.CollectionSpec, objectMaps map[string]*ebpf.Map, calls []call) (loaded []program, err error) {
	for _, c := range calls {
		for _, name := range []string{o.calls.entered, o.calls.left} {
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
			p.program, err = l.loadProgram(one, name, objectMaps)
			if errors.Is(err, btf.ErrNotFound) {
				continue
			}
			if err != nil {
				l.report(p.families, p.hook(), err)
				continue
			}
			loaded = append(loaded, p)
		}
	}
	return loaded, nil
}

func sectionOf(spec *ebpf.ProgramSpec) string {
	if spec.AttachType == ebpf.AttachTraceFEntry {
		return "fentry/" + spec.AttachTo
	}
	return "fexit/" + spec.AttachTo
}

// loadAnyCall loads the programs that see all calls, and tells them which matter.
func (l *loader) loadAnyCall(o object, spec *ebpf.CollectionSpec, objectMaps map[string]*ebpf.Map, calls []call) (loaded []program, err error) {
	if len(calls) == 0 {
		return nil, nil
	}
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
