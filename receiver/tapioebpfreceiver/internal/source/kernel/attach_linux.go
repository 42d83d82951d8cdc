// Copyright The otelcol-tapio Authors
// SPDX-License-Identifier: Apache-2.0

//go:build amd64 || arm64

package kernel // import "github.com/tapio-io/otelcol-tapio/receiver/tapioebpfreceiver/internal/source/kernel"

import (
	"errors"
	"fmt"
	"io"
	"strings"

	"github.com/cilium/ebpf"
	"github.com/cilium/ebpf/link"
	"golang.org/x/sys/unix"
)

// attach puts a program to its hook; how follows from the program's own type.
func (s *Source) attach(p program) error {
	if it, ok := iterators[p.name]; ok {
		return s.attachIterator(p, it)
	}
	switch p.spec.Type {
	case ebpf.Tracing:
		return s.keep(link.AttachTracing(link.TracingOptions{Program: p.program}))
	case ebpf.RawTracepoint:
		_, tracepoint, _ := strings.Cut(p.spec.SectionName, "/")
		return s.keep(link.AttachRawTracepoint(link.RawTracepointOptions{Name: tracepoint, Program: p.program}))
	case ebpf.CGroupSKB, ebpf.CGroupSock:
		return s.attachToCgroups(p)
	default:
		return fmt.Errorf("attach %s: no way is known for programs of type %s", p.spec.SectionName, p.spec.Type)
	}
}

// attachToCgroups is where scope begins for packets and sockets: other cgroups' never reach the
// program.
func (s *Source) attachToCgroups(p program) error {
	for _, group := range s.scope.cgroups {
		err := s.keep(link.AttachCgroup(link.CgroupOptions{Path: group.dir, Attach: p.spec.AttachType, Program: p.program}))
		if err != nil {
			return fmt.Errorf("cgroup %s: %w", group.path, err)
		}
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

func (s *Source) keep(l link.Link, err error) error {
	if err != nil {
		return err
	}
	s.links = append(s.links, l)
	return nil
}
