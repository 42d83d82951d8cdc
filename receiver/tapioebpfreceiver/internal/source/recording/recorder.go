// Copyright The otelcol-tapio Authors
// SPDX-License-Identifier: Apache-2.0

package recording // import "github.com/tapio-io/otelcol-tapio/receiver/tapioebpfreceiver/internal/source/recording"

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"time"

	"go.uber.org/zap"

	"github.com/tapio-io/otelcol-tapio/receiver/tapioebpfreceiver/internal/source"
)

// Options of a Recorder.
type Options struct {
	File string
	// MaxSize is where recording ends, in bytes. The source goes on.
	MaxSize   uint64
	Families  []string
	Collector string // its version
	// Node is the host's name in Kubernetes; empty: it is in none, or nobody is asked for names.
	Node string
}

// fileMode: a recording has request lines, names that were looked up and command lines in it as they
// were, before anything is redacted.
const fileMode = 0o600

// flushEvery is how much is missing at the most where a collector is killed.
const flushEvery = time.Second

// Recorder is a source whose records go to a file on their way.
type Recorder struct {
	source.Source
	options  Options
	logger   *zap.Logger
	file     *os.File
	writer   *Writer // nil: recording has ended
	bootTime int64
	flushed  uint64 // ns since boot
}

var _ source.Source = (*Recorder)(nil)

// Record begins a recording of what a source hands out. There must be no such file yet. A write that
// fails later ends the recording, and not the source.
func Record(from source.Source, options Options, logger *zap.Logger) (*Recorder, error) {
	host, err := from.HostName()
	if err != nil {
		return nil, err
	}
	file, err := os.OpenFile(options.File, os.O_CREATE|os.O_EXCL|os.O_WRONLY, fileMode)
	switch {
	case errors.Is(err, fs.ErrExist):
		return nil, fmt.Errorf("create the recording: %w: none is overwritten, name another file or move this one away", err)
	case err != nil:
		return nil, fmt.Errorf("create the recording: %w", err)
	}
	r := &Recorder{Source: from, options: options, logger: logger, file: file}
	r.writer, err = NewWriter(file, Description{
		Source:    from.Name(),
		HostName:  host,
		Families:  options.Families,
		Collector: options.Collector,
		Node:      options.Node,
		Started:   from.Wall(),
	})
	if err != nil {
		return nil, errors.Join(fmt.Errorf("begin the recording: %w", err), file.Close())
	}
	return r, nil
}

// Unwrap is the source that is recorded, or the source itself.
func Unwrap(s source.Source) source.Source {
	if r, ok := s.(*Recorder); ok {
		return r.Source
	}
	return s
}

// BootTime implements source.Source.
func (r *Recorder) BootTime() (int64, error) {
	bootTime, err := r.Source.BootTime()
	if err == nil {
		r.bootTime = bootTime
	}
	return bootTime, err
}

// Cgroups implements source.Source.
func (r *Recorder) Cgroups() []source.Cgroup {
	cgroups := r.Source.Cgroups()
	r.writeJSON(KindCgroups, cgroups)
	return cgroups
}

// Cgroup implements source.Source.
func (r *Recorder) Cgroup(id uint64, pid uint32) (string, bool) {
	path, found := r.Source.Cgroup(id, pid)
	r.writeJSON(KindCgroup, CgroupAnswer{ID: id, Path: path})
	return path, found
}

// Processes implements source.Source.
func (r *Recorder) Processes() []source.Process {
	processes := r.Source.Processes()
	r.writeJSON(KindProcesses, processes)
	return processes
}

// Process implements source.Source.
func (r *Recorder) Process(pid uint32) (source.Process, bool) {
	process, found := r.Source.Process(pid)
	answer := Answer{PID: pid}
	if found {
		answer.Process = &process
	}
	r.writeJSON(KindProcess, answer)
	return process, found
}

// Gone implements source.Source.
func (r *Recorder) Gone(pid uint32, startTicks uint64) bool {
	gone := r.Source.Gone(pid, startTicks)
	if gone {
		r.writeJSON(KindGone, Gone{PID: pid, StartTicks: startTicks})
	}
	return gone
}

// WriteNames adds what has become known of names. It belongs to the goroutine that reads.
func (r *Recorder) WriteNames(told any) { r.writeJSON(KindNames, told) }

// Read implements source.Source.
func (r *Recorder) Read(handle func(record []byte)) error {
	err := r.Source.Read(r.recorded(handle))
	r.endTurn(r.Boot())
	return err
}

// Stop implements source.Source.
func (r *Recorder) Stop(handle func(record []byte)) error {
	err := r.Source.Stop(r.recorded(handle))
	r.endTurn(r.Boot())
	return err
}

func (r *Recorder) recorded(handle func(record []byte)) func(record []byte) {
	return func(record []byte) {
		if r.writer != nil {
			r.writer.WriteRecord(record)
		}
		handle(record)
	}
}

func (r *Recorder) endTurn(now uint64) {
	if r.writer == nil {
		return
	}
	r.writer.WriteClock(Clock{Boot: now, BootTime: r.bootTime})
	if now-r.flushed >= uint64(flushEvery) {
		r.flushed = now
		r.writer.Flush()
	}
	switch {
	case r.writer.Err() != nil:
		r.finish(false)
	case r.writer.Size() >= r.options.MaxSize:
		r.finish(true)
	}
}

func (r *Recorder) writeJSON(kind Kind, value any) {
	if r.writer != nil {
		r.writer.WriteJSON(kind, value)
	}
}

// Close implements source.Source.
func (r *Recorder) Close() error {
	r.finish(false)
	return r.Source.Close()
}

// finish ends the recording, and says how it ended.
func (r *Recorder) finish(full bool) {
	if r.writer == nil {
		return
	}
	counters, err := r.Counters()
	if err == nil {
		r.writer.WriteJSON(KindEnd, End{Counters: counters, Full: full})
	}
	r.writer.Flush()
	if err := errors.Join(err, r.writer.Err(), r.file.Close()); err != nil {
		r.logger.Error("The recording has ended early", zap.String("file", r.options.File), zap.Error(err))
	} else {
		r.logger.Info("The recording has ended", zap.String("file", r.options.File), zap.Uint64("bytes", r.writer.Size()), zap.Bool("full", full))
	}
	r.writer = nil
}
