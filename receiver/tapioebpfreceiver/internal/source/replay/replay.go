// Copyright The otelcol-tapio Authors
// SPDX-License-Identifier: Apache-2.0

// Package replay is the source that reads a recording.
package replay // import "github.com/tapio-io/otelcol-tapio/receiver/tapioebpfreceiver/internal/source/replay"

import (
	"errors"
	"fmt"
	"io"
	"os"
	"slices"
	"sync/atomic"
	"time"

	"go.uber.org/zap"

	"github.com/tapio-io/otelcol-tapio/receiver/tapioebpfreceiver/internal/event"
	"github.com/tapio-io/otelcol-tapio/receiver/tapioebpfreceiver/internal/source"
	"github.com/tapio-io/otelcol-tapio/receiver/tapioebpfreceiver/internal/source/lives"
	"github.com/tapio-io/otelcol-tapio/receiver/tapioebpfreceiver/internal/source/recording"
)

// Name is what the source's resources carry as tapio.source.
const Name = "replay"

// Options say what to play, and how.
type Options struct {
	File string
	// Speed is how much faster than it was recorded; 0: as fast as it can be read.
	Speed float64
	// Families whose records are handed out.
	Families []string
	// FlushInterval is how long Read waits at the most.
	FlushInterval time.Duration
}

// Source plays a recording, turn by turn: a turn is what the recorded source's reader found at a
// time. The order of records, of what was asked and of the clock is as it was, at any speed.
type Source struct {
	options   Options
	logger    *zap.Logger
	file      *os.File
	reader    *recording.Reader
	contents  contents
	began     time.Time        // of playing
	played    int              // turns
	endedAt   time.Time        // when the last turn was played; zero: it was not
	boot      atomic.Uint64    // of the last turn
	wall      atomic.Int64     // likewise
	record    []byte           // that waits for the answers that follow it
	ahead     *recording.Frame // that was read to find all answers at the end of a turn; nil: none
	onNames   func(recording.Frame) error
	lives     *lives.Lives // of processes whose records nobody asked for
	answers   map[uint32]*source.Process
	gone      map[recording.Gone]struct{}
	paths     map[uint64]string // of cgroups that were asked for
	seen      [event.FamilyCount]atomic.Uint64
	isStopped bool
}

var _ source.Source = (*Source)(nil)

// New reads the recording once, so that one that is damaged is refused before any of it is played. Of
// one that was cut off, what is there is played.
func New(options Options, logger *zap.Logger) (source.Source, error) {
	s := &Source{
		options: options, logger: logger,
		answers: map[uint32]*source.Process{}, gone: map[recording.Gone]struct{}{}, paths: map[uint64]string{},
		onNames: func(recording.Frame) error { return nil },
	}
	if err := s.open(); err != nil {
		return nil, fmt.Errorf("recording %s: %w", options.File, err)
	}
	return s, nil
}

func (s *Source) open() error {
	var err error
	if s.file, err = os.Open(s.options.File); err != nil {
		return err
	}
	if s.contents, err = survey(s.file); err != nil {
		return errors.Join(err, s.file.Close())
	}
	if _, err = s.file.Seek(0, io.SeekStart); err != nil {
		return errors.Join(err, s.file.Close())
	}
	if s.reader, err = recording.NewReader(s.file); err != nil {
		return errors.Join(err, s.file.Close())
	}
	s.lives = lives.New(s.contents.processes)
	s.setClock(s.contents.turns[0])
	s.logContents()
	return nil
}

func (s *Source) logContents() {
	c := &s.contents
	fields := []zap.Field{
		zap.String("file", s.options.File), zap.String("source", c.description.Source), zap.String("host", c.description.HostName), zap.String("recorded_by", c.description.Collector),
		zap.Time("from", c.turns[0].Wall()), zap.Time("to", c.turns[len(c.turns)-1].Wall()), zap.Int("records", c.records),
	}
	if c.cut {
		s.logger.Warn("The recording was cut off; what is there is played", fields...)
		return
	}
	for family, counted := range c.end.Counters {
		if lost := counted.RingFull + counted.TableFull + counted.Unreadable + counted.QueueFull; lost > 0 {
			fields = append(fields, zap.Uint64("lost_"+event.Family(family).String()+"_when_recorded", lost))
		}
	}
	s.logger.Info("A recording is played", fields...)
}

// Name implements source.Source.
func (*Source) Name() string { return Name }

// HostName implements source.Source.
func (s *Source) HostName() (string, error) { return s.contents.description.HostName, nil }

// NodeName is the host's in Kubernetes; empty where it is not known.
func (s *Source) NodeName() string { return s.contents.description.Node }

// Recorded is the name of the source that was recorded.
func (s *Source) Recorded() string { return s.contents.description.Source }

// HasNames says whether anything was recorded of the names of pods and Services.
func (s *Source) HasNames() bool { return s.contents.hasNames }

// OnNames has learn called with what was recorded of names, in its place among the records. It must be called
// before the first Read, whose goroutine learn then runs in.
func (s *Source) OnNames(learn func(recording.Frame) error) { s.onNames = learn }

// Patient implements source.Source.
func (*Source) Patient() bool { return true }

// Behind implements source.Source.
func (*Source) Behind() bool { return false }

// Boot implements source.Source.
func (s *Source) Boot() uint64 { return s.boot.Load() + uint64(s.sinceTheEnd()) }

// Wall implements source.Source.
func (s *Source) Wall() time.Time { return time.Unix(0, s.wall.Load()).Add(s.sinceTheEnd()) }

// sinceTheEnd of the last turn, after which time goes on as it does.
func (s *Source) sinceTheEnd() time.Duration {
	if s.endedAt.IsZero() {
		return 0
	}
	return time.Since(s.endedAt)
}

func (s *Source) setClock(clock recording.Clock) {
	s.boot.Store(clock.Boot)
	s.wall.Store(clock.Wall().UnixNano())
}

// BootTime implements source.Source: what was measured before the turn that is next, and is that of its records.
func (s *Source) BootTime() (int64, error) {
	return s.contents.turns[min(s.played, len(s.contents.turns)-1)].BootTime, nil
}

// Read implements source.Source.
func (s *Source) Read(handle func(record []byte)) error {
	if s.began.IsZero() {
		s.began = time.Now()
	}
	if s.isStopped || s.played == len(s.contents.turns) {
		time.Sleep(s.waitAtTheEnd())
		return nil
	}
	if wait := s.untilNextTurn(); wait > 0 {
		time.Sleep(min(wait, s.options.FlushInterval))
		if wait > s.options.FlushInterval {
			return nil
		}
	}
	return s.play(handle)
}

func (s *Source) waitAtTheEnd() time.Duration {
	if s.isStopped {
		return 0
	}
	return s.options.FlushInterval
}

// untilNextTurn is how long it is until then, at the speed that was asked for.
func (s *Source) untilNextTurn() time.Duration {
	if s.options.Speed == 0 {
		return 0
	}
	return time.Duration(float64(s.contents.ends[s.played])/s.options.Speed) - time.Since(s.began)
}

// play hands out the records of the next turn.
func (s *Source) play(handle func(record []byte)) error {
	for {
		frame, err := s.next()
		if err != nil {
			return fmt.Errorf("recording %s: %w", s.options.File, err) // it has changed since it was surveyed
		}
		if frame.Kind == recording.KindRecord || frame.Kind == recording.KindClock {
			s.handOut(handle)
		}
		switch frame.Kind {
		case recording.KindRecord:
			s.record = append(s.record[:0], frame.Payload...)
		case recording.KindClock:
			s.endTurn(frame.Clock())
			return s.readAhead()
		default:
			if err := s.learn(frame); err != nil {
				return err
			}
		}
	}
}

func (s *Source) next() (recording.Frame, error) {
	if ahead := s.ahead; ahead != nil {
		s.ahead = nil
		return *ahead, nil
	}
	return s.reader.Next()
}

// readAhead learns the answers to what is asked when a turn has ended. Behind the last turn there may be what was
// cut off.
func (s *Source) readAhead() error {
	for {
		frame, err := s.reader.Next()
		switch {
		case err != nil && s.played == len(s.contents.turns):
			return nil
		case err != nil:
			return fmt.Errorf("recording %s: %w", s.options.File, err)
		case frame.Kind == recording.KindRecord, frame.Kind == recording.KindClock:
			s.ahead = &frame
			return nil
		}
		if err := s.learn(frame); err != nil {
			return err
		}
	}
}

// handOut hands out the record that waited.
func (s *Source) handOut(handle func(record []byte)) {
	if len(s.record) == 0 {
		return
	}
	if s.count(s.record) {
		handle(s.record)
	}
	s.record = s.record[:0]
}

// count says whether the record's family was asked for. Records of no family are the ledger's to count.
func (s *Source) count(record []byte) bool {
	header, err := event.DecodeHeader(record)
	if err != nil {
		return true
	}
	family := event.Type(header.Type).Family()
	if family == event.FamilyOther {
		return true
	}
	if !s.isWanted(family, record) {
		if family == event.FamilyProcess { // the others are asked whose they are
			s.lives.Learn(record)
		}
		return false
	}
	s.seen[family].Add(1)
	if summed, events, ok := event.SummedIn(record); ok {
		s.seen[summed].Add(events)
	}
	return true
}

func (s *Source) isWanted(family event.Family, record []byte) bool {
	switch family {
	case event.FamilyCgroup:
		return true
	case event.FamilyThrottle: // it says how many of another are missing, or sums them up
		limited, ok := limitedFamily(record)
		return !ok || slices.Contains(s.options.Families, limited.String())
	default:
		return slices.Contains(s.options.Families, family.String())
	}
}

// limitedFamily is whose limit a record is about.
func limitedFamily(record []byte) (family event.Family, ok bool) {
	if summed, _, ok := event.SummedIn(record); ok {
		return summed, true
	}
	e, err := event.DecodeThrottling(record)
	if err != nil {
		return 0, false
	}
	return e.Limited(), true
}

func (s *Source) endTurn(clock recording.Clock) {
	s.setClock(clock)
	s.played++
	if s.played == len(s.contents.turns) {
		s.endedAt = time.Now()
		s.logger.Info("The recording has been played", zap.String("file", s.options.File))
	}
}

func (s *Source) learn(frame recording.Frame) error {
	switch frame.Kind {
	case recording.KindProcess:
		var answer recording.Answer
		if err := frame.JSON(&answer); err != nil {
			return err
		}
		s.answers[answer.PID] = answer.Process
	case recording.KindGone:
		var gone recording.Gone
		if err := frame.JSON(&gone); err != nil {
			return err
		}
		s.gone[gone] = struct{}{}
	case recording.KindCgroup:
		var answer recording.CgroupAnswer
		if err := frame.JSON(&answer); err != nil {
			return err
		}
		s.paths[answer.ID] = answer.Path
	case recording.KindNames:
		return s.onNames(frame)
	}
	return nil
}

// Cgroups implements source.Source.
func (s *Source) Cgroups() []source.Cgroup { return s.contents.cgroups }

// Cgroup implements source.Source.
func (s *Source) Cgroup(id uint64, _ uint32) (string, bool) {
	path := s.paths[id]
	delete(s.paths, id) // each question has its own answer
	return path, path != ""
}

// Processes implements source.Source.
func (s *Source) Processes() []source.Process { return s.contents.processes }

// Process implements source.Source. It was not asked for where records told of it.
func (s *Source) Process(pid uint32) (source.Process, bool) {
	answer, wasAsked := s.answers[pid]
	delete(s.answers, pid) // each question has its own
	switch {
	case !wasAsked:
		return s.lives.Process(pid)
	case answer == nil:
		return source.Process{}, false
	}
	return *answer, true
}

// Gone implements source.Source.
func (s *Source) Gone(pid uint32, startTicks uint64) bool {
	key := recording.Gone{PID: pid, StartTicks: startTicks}
	_, gone := s.gone[key]
	delete(s.gone, key)
	return gone || s.lives.Gone(pid, startTicks)
}

// Counters implements source.Source: what was handed out. What was lost when it was recorded was lost
// then.
func (s *Source) Counters() (map[uint8]source.Counters, error) {
	counters := map[uint8]source.Counters{}
	for family := range s.seen {
		if n := s.seen[family].Load(); n > 0 {
			counters[uint8(family)] = source.Counters{Seen: n}
		}
	}
	return counters, nil
}

// Capabilities implements source.Source: no hook is in use.
func (*Source) Capabilities() []source.Capability { return nil }

// Stop implements source.Source.
func (s *Source) Stop(func(record []byte)) error {
	s.isStopped = true
	return nil
}

// Close implements source.Source.
func (s *Source) Close() error { return s.file.Close() }
