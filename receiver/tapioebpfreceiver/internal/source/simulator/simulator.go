// Copyright The otelcol-tapio Authors
// SPDX-License-Identifier: Apache-2.0

// Package simulator is the source of events that never happened: those of a node of a small cluster,
// with a shop of a few services on it. It writes the records that the kernel would, so that all behind
// it is the same. The same seed makes the same records.
package simulator // import "github.com/tapio-io/otelcol-tapio/receiver/tapioebpfreceiver/internal/source/simulator"

import (
	"container/heap"
	"math"
	"slices"
	"sync/atomic"
	"time"

	"go.uber.org/zap"

	"github.com/tapio-io/otelcol-tapio/receiver/tapioebpfreceiver/internal/event"
	"github.com/tapio-io/otelcol-tapio/receiver/tapioebpfreceiver/internal/source"
	"github.com/tapio-io/otelcol-tapio/receiver/tapioebpfreceiver/internal/source/kernel"
	"github.com/tapio-io/otelcol-tapio/receiver/tapioebpfreceiver/internal/source/lives"
)

// Name is what the source's resources carry as tapio.source.
const Name = "simulator"

// Options of the simulated world.
type Options struct {
	// Rate is how many events there are a second, on average; 0: as many as are taken. Time then goes
	// as fast as at unlimitedRate.
	Rate float64
	Seed uint64
	// Pods on the node; there are at least as many as services.
	Pods      int
	Scenarios Scenarios
	// Families whose events there are.
	Families []string
	// Security says which actions there are of that family: those that the kernel would be asked for.
	Security kernel.SecurityOptions
	// ReportInterval is how often what lasts is reported, and how long a UDP flow must be silent to have ended.
	ReportInterval time.Duration
	// FlushInterval is how long Read waits at the most.
	FlushInterval time.Duration
}

// Scenarios are how often something goes wrong, from 0 to 1.
type Scenarios struct {
	Errors        float64 // of requests and probes that fail
	SearchLists   float64 // of pods whose resolvers try their search lists first
	NXDomainStorm float64 // of what happens with names: one for a name that does not exist
	CrashLoop     float64 // of what processes do: a container that does not come up
	NoisyNeighbor float64 // of what happens in the network: a pod that connects without end
	Attack        float64 // of what processes do, and of what matters for security: one who took over a web server
}

const (
	// firstBoot is when the world begins, so that all of its processes can have begun before.
	firstBoot = 7200 * uint64(1e9)
	// unlimitedRate is that of simulated time where nobody waits for it, events a second.
	unlimitedRate = 10_000
	// forgetEvery so often which pids and ports were in use is forgotten; ns.
	forgetEvery = uint64(1e9)
	// turnSteps are how many stories and records a turn has at the most: whoever reads has other things to do.
	turnSteps = 4096
	// maxMade records wait for their time, of about 500 bytes each; while they do, no story begins. At 100,000 events
	// a second there are about 50,000.
	maxMade = 1 << 18
	// maxLag is how far the world's time may fall behind until that is said.
	maxLag = uint64(1e9)
)

// Source is the simulator.
type Source struct {
	options  Options
	logger   *zap.Logger
	world    *world
	stories  story
	shares   shares
	made     records
	lives    *lives.Lives // of processes, where nobody asked for them
	number   uint64       // of records that were made
	events   uint64       // of these, those that are not of cgroups
	next     uint64       // when the next story begins, CLOCK_BOOTTIME, ns
	forgets  uint64       // when what is over is forgotten, CLOCK_BOOTTIME, ns
	owed     float64      // ns that stories still take, or that they took too many
	began    time.Time
	bootTime int64
	now      atomic.Uint64 // up to which records were handed out, CLOCK_BOOTTIME, ns
	seen     [event.FamilyCount]atomic.Uint64
	maxMade  int  // of made
	isSlow   bool // that the rate is too high was said
	stopped  bool
}

var _ source.Source = (*Source)(nil)

// New makes the world. A sensitive path that is none is an error.
func New(options Options, logger *zap.Logger) (*Source, error) {
	asked, err := watch(options.Security)
	if err != nil {
		return nil, err
	}
	s := &Source{options: options, logger: logger, began: time.Now(), next: firstBoot, maxMade: maxMade}
	s.bootTime = s.began.UnixNano() - int64(firstBoot)
	s.now.Store(firstBoot)
	s.world = newWorld(options.Seed, options.Pods, firstBoot)
	s.lives = lives.New(s.world.processes())
	s.stories = story{
		world: s.world, scenarios: options.Scenarios, tell: s.tell, watched: asked, threads: map[*process]*thread{},
	}
	s.stories.interval = uint64(options.ReportInterval)
	s.shares = newShares(options.Families)
	s.stories.hasRoomForNames = func() bool { return s.shares.behind(event.FamilyDNS) > 0 }
	return s, nil
}

func (s *Source) tell(family event.Family, time uint64, bytes []byte) {
	s.shares.count(family)
	s.stories.latest = max(s.stories.latest, time)
	switch {
	case family == event.FamilyCgroup: // they are not the user's, and always there
	case s.isWanted(family):
		s.events++
	case family == event.FamilyProcess: // the others are asked whose they are
	default:
		return
	}
	s.number++
	heap.Push(&s.made, record{time: time, number: s.number, family: family, bytes: bytes})
}

func (s *Source) isWanted(family event.Family) bool {
	return slices.Contains(s.options.Families, family.String())
}

// Name implements source.Source.
func (*Source) Name() string { return Name }

// HostName implements source.Source.
func (s *Source) HostName() (string, error) { return s.world.node.name, nil }

// Patient implements source.Source.
func (s *Source) Patient() bool { return s.options.Rate == 0 }

// Behind implements source.Source.
func (*Source) Behind() bool { return false }

// Boot implements source.Source.
func (s *Source) Boot() uint64 { return s.now.Load() }

// Wall implements source.Source.
func (s *Source) Wall() time.Time { return time.Unix(0, s.bootTime+int64(s.now.Load())) }

// BootTime implements source.Source.
func (s *Source) BootTime() (int64, error) { return s.bootTime, nil }

// Read implements source.Source.
func (s *Source) Read(handle func(record []byte)) error {
	switch {
	case s.stopped:
	case s.options.Rate == 0: // time goes on as there are records
		s.handOutUntil(math.MaxUint64, handle)
	default:
		s.handOutDue(handle)
	}
	return nil
}

// handOutDue waits for what is due, no longer than the flush interval.
func (s *Source) handOutDue(handle func(record []byte)) {
	due := firstBoot + uint64(time.Since(s.began))
	if wait := s.nextTime() - min(due, s.nextTime()); wait > 0 {
		time.Sleep(min(time.Duration(wait), s.options.FlushInterval))
		due = firstBoot + uint64(time.Since(s.began))
	}
	s.handOutUntil(due, handle)
	if lag := due - s.now.Load(); lag > maxLag {
		s.saySlow(zap.Duration("behind", time.Duration(lag)))
	}
}

// saySlow once: why it is does not change.
func (s *Source) saySlow(why zap.Field) {
	if !s.isSlow {
		s.isSlow = true
		s.logger.Warn("The simulator cannot make as many events as its rate says", zap.Float64("rate", s.options.Rate), why)
	}
}

// handOutUntil hands out what there is up to a time, or as much of it as a turn may have. Time goes on no further
// than that, so that what is made waits for nothing but its time.
func (s *Source) handOutUntil(due uint64, handle func(record []byte)) {
	for range turnSteps {
		switch next := s.nextTime(); {
		case next > due:
			s.now.Store(due)
			return
		case next == s.next && len(s.made) >= s.maxMade:
			s.next = s.made[0].time + 1
			s.saySlow(zap.Int("waiting", len(s.made)))
		case next == s.next: // a story may have a record that is earlier than those that are there
			s.tellNext()
		default:
			s.handOut(handle)
		}
	}
	s.now.Store(min(s.nextTime(), due))
}

// nextTime is when the next record is due, or the next story that may have an earlier one.
func (s *Source) nextTime() uint64 {
	if len(s.made) > 0 {
		return min(s.made[0].time, s.next)
	}
	return s.next
}

func (s *Source) handOut(handle func(record []byte)) {
	r := heap.Pop(&s.made).(record)
	if r.family == event.FamilyProcess && !s.isWanted(r.family) {
		s.lives.Learn(r.bytes)
		return
	}
	s.seen[r.family].Add(1)
	handle(r.bytes)
}

// tellNext begins the next story. It takes as long, until the one after it, as it has events.
func (s *Source) tellNext() {
	rate := s.options.Rate
	if rate == 0 {
		rate = unlimitedRate
	}
	if s.next >= s.forgets {
		s.world.forget(s.next)
		s.forgets = s.next + forgetEvery
	}
	before := s.events
	s.shares.choose(&s.stories, s.next)
	s.stories.end()
	least := 1.0
	if s.events == before {
		least = 1e9 / rate // time goes on where there is nothing to tell
	}
	gap := s.owed + float64(s.events-before)*1e9/rate
	step := max(math.Floor(gap), least)
	s.owed = gap - step
	s.next += uint64(step)
}

// Cgroups implements source.Source: none is made later.
func (s *Source) Cgroups() []source.Cgroup { return s.world.cgroups() }

// Cgroup implements source.Source: all are told by Cgroups.
func (*Source) Cgroup(uint64, uint32) (string, bool) { return "", false }

// Processes implements source.Source.
func (s *Source) Processes() []source.Process { return s.world.processes() }

// Process implements source.Source: all are told by Processes or by records, but where the family process is off.
func (s *Source) Process(pid uint32) (source.Process, bool) { return s.lives.Process(pid) }

// Gone implements source.Source: all that end say so, but where the family process is off.
func (s *Source) Gone(pid uint32, startTicks uint64) bool { return s.lives.Gone(pid, startTicks) }

// Counters implements source.Source.
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
	s.stopped = true
	return nil
}

// Close implements source.Source.
func (*Source) Close() error { return nil }

// records are a heap, the earliest one first.
type records []record

func (r records) Len() int      { return len(r) }
func (r records) Swap(i, j int) { r[i], r[j] = r[j], r[i] }
func (r records) Less(i, j int) bool {
	if r[i].time != r[j].time {
		return r[i].time < r[j].time
	}
	return r[i].number < r[j].number
}

// Push implements heap.Interface.
func (r *records) Push(x any) { *r = append(*r, x.(record)) }

// Pop implements heap.Interface.
func (r *records) Pop() any {
	last := len(*r) - 1
	x := (*r)[last]
	(*r)[last] = record{}
	*r = (*r)[:last]
	return x
}
