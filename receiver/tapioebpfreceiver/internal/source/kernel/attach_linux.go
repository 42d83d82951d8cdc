// Copyright The otelcol-tapio Authors
// SPDX-License-Identifier: Apache-2.0

//go:build amd64 || arm64

package kernel // import "github.com/tapio-io/otelcol-tapio/receiver/tapioebpfreceiver/internal/source/kernel"

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"slices"
	"strings"
	"structs"
	"unsafe"

	"github.com/cilium/ebpf"
	"github.com/cilium/ebpf/link"
	"go.uber.org/zap"
	"golang.org/x/sys/unix"

	"github.com/tapio-io/otelcol-tapio/receiver/tapioebpfreceiver/internal/source"
)

// attach puts a program to its hook; how follows from the program's own type.
func (s *Source) attach(p program) error {
	if it, ok := iterators[p.name]; ok {
		return s.attachIterator(p, it)
	}
	switch p.spec.Type {
	case ebpf.Tracing:
		return s.keep(p.name)(link.AttachTracing(link.TracingOptions{Program: p.program}))
	case ebpf.RawTracepoint:
		_, tracepoint, _ := strings.Cut(p.spec.SectionName, "/")
		return s.keep(p.name)(link.AttachRawTracepoint(link.RawTracepointOptions{Name: tracepoint, Program: p.program}))
	case ebpf.CGroupSKB, ebpf.CGroupSock:
		return s.attachToCgroups(p)
	default:
		return fmt.Errorf("attach %s: no way is known for programs of type %s", p.spec.SectionName, p.spec.Type)
	}
}

// attachToCgroups is where scope begins for packets and sockets: other cgroups' never reach the
// program. It is at all of them or at none; those that were removed meanwhile have no more packets.
func (s *Source) attachToCgroups(p program) error {
	var gone error
	for _, group := range s.scope.cgroups {
		err := s.keep(p.name)(link.AttachCgroup(link.CgroupOptions{Path: group.dir, Attach: p.spec.AttachType, Program: p.program}))
		if err == nil {
			continue
		}
		err = fmt.Errorf("cgroup %s: %w", group.path, err)
		if _, missing := os.Stat(group.dir); !errors.Is(missing, fs.ErrNotExist) {
			return errors.Join(err, s.detach(p.name))
		}
		gone = errors.Join(gone, err)
	}
	if gone != nil && s.isAnywhere(p.name) {
		s.logger.Warn("A cgroup in scope was removed while the programs were loaded", zap.Error(gone))
		return nil
	}
	return gone
}

func (s *Source) isAnywhere(program string) bool {
	return slices.ContainsFunc(s.links, func(a attachment) bool { return a.program == program })
}

// halves see one direction of the packets each.
var halves = []string{"packet_received", "packet_sent"}

// dropHalf detaches one that is without the other: it would tell of questions without answers, or the other way round.
func (s *Source) dropHalf() error {
	missing := slices.DeleteFunc(slices.Clone(halves), s.isAttached)
	if len(missing) != 1 {
		return nil
	}
	half := slices.DeleteFunc(slices.Clone(halves), func(name string) bool { return name == missing[0] })[0]
	i := s.indexOf(half)
	hook := s.capabilities[i].Hook
	for n := range s.capabilities {
		if c := &s.capabilities[n]; c.Hook == hook && c.State == source.Attached {
			c.State, c.Reason = source.Unsupported, "it is of no use without the hook for the other direction"
		}
	}
	s.programs[i] = attached{}
	return s.detach(half)
}

// indexOf an attached program among the capabilities; -1: it is not attached.
func (s *Source) indexOf(program string) int {
	return slices.IndexFunc(s.programs, func(a attached) bool { return a.name == program && a.program != nil })
}

func (s *Source) isAttached(program string) bool {
	i := s.indexOf(program)
	return i >= 0 && s.capabilities[i].State == source.Attached
}

// detach a program wherever it is attached.
func (s *Source) detach(program string) error {
	var errs []error
	s.links = slices.DeleteFunc(s.links, func(a attachment) bool {
		if a.program != program {
			return false
		}
		errs = append(errs, a.Close())
		return true
	})
	return errors.Join(errs...)
}

// watching is what the programs of sockets wait for: see bpf/watch.h.
const watching = 1

// watch is as struct watch, bpf/watch.h.
type watch struct {
	_            structs.HostLayout
	state, round uint64
}

// setWatch tells them.
func (s *Source) setWatch(to uint64) error {
	s.watch.state = to
	return s.putWatch()
}

// beginRound tells the iterators what is before this round of theirs.
func (s *Source) beginRound() error {
	s.watch.round = s.Boot()
	return s.putWatch()
}

func (s *Source) putWatch() error {
	if s.loader.watch == nil {
		return nil
	}
	if err := s.loader.watch.Put(uint32(0), unsafe.Slice((*byte)(unsafe.Pointer(&s.watch)), unsafe.Sizeof(s.watch))); err != nil {
		return fmt.Errorf("tell the programs of sockets when to look: %w", err)
	}
	return nil
}

func (s *Source) attachIterator(p program, it iterator) error {
	iter, err := link.AttachIter(link.IterOptions{Program: p.program, Map: p.maps[it.overMap]})
	if err != nil {
		return err
	}
	if it.once {
		defer iter.Close()
		return run(iter)
	}
	if it.asked {
		s.executables.iter = iter
		return nil
	}
	s.reporters = append(s.reporters, iter)
	return nil
}

// run lets an iterator visit all that it iterates over. It writes to the ring; what it prints, and
// that is nothing, is thrown away.
func run(iter *link.Iter) error { return read(iter, io.Discard) }

// read lets an iterator visit all that it iterates over, and hands on what it prints.
func read(iter *link.Iter, to io.Writer) error {
	reader, err := iter.Open()
	if err != nil {
		return err
	}
	defer reader.Close()
	for {
		_, err := io.Copy(to, reader)
		if errors.Is(err, unix.EAGAIN) {
			continue // a million elements were visited (MAX_ITER_OBJECTS), and there are more
		}
		if err != nil {
			return fmt.Errorf("run iterator: %w", err)
		}
		return nil
	}
}

// keep what a program was attached by.
func (s *Source) keep(program string) func(link.Link, error) error {
	return func(l link.Link, err error) error {
		if err != nil {
			return err
		}
		s.links = append(s.links, attachment{l, program})
		return nil
	}
}

// An attachment is a program's, at one hook.
type attachment struct {
	link.Link
	program string
}
