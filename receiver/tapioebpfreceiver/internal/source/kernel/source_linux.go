// Copyright The otelcol-tapio Authors
// SPDX-License-Identifier: Apache-2.0

//go:build amd64 || arm64

package kernel // import "github.com/tapio-io/otelcol-tapio/receiver/tapioebpfreceiver/internal/source/kernel"

import (
	"errors"
	"fmt"
	"os"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/cilium/ebpf"
	"github.com/cilium/ebpf/link"
	"github.com/cilium/ebpf/ringbuf"
	"github.com/cilium/ebpf/rlimit"
	"go.uber.org/zap"
	"golang.org/x/sys/unix"

	"github.com/tapio-io/otelcol-tapio/bpf"
	"github.com/tapio-io/otelcol-tapio/receiver/tapioebpfreceiver/internal/event"
	"github.com/tapio-io/otelcol-tapio/receiver/tapioebpfreceiver/internal/source"
)

// Source is the kernel.
type Source struct {
	options Options
	logger  *zap.Logger
	scope   scope

	features     kernelFeatures
	sensitive    sensitiveSet
	loader       *loader
	links        []attachment
	reporters    []*link.Iter
	executables  executables
	capabilities []source.Capability // complete when New returns, but for the missed runs
	programs     []attached          // by capability; empty where none is attached

	lifecycle, traffic *ringbuf.Reader
	foreignPIDs        bool           // /proc is not that of the pids that programs see
	poll               int            // an epoll of both
	record             ringbuf.Record // a buffer that is used again and again
	watch              watch          // reports and the end take turns in setting it
	isWatching         bool           // the programs of sockets have looked: see bpf/watch.h
	stopped            bool
	behind             bool
	limits             *limits
	summing            *summing

	stopReports chan struct{}
	reports     sync.WaitGroup
}

// attached is a program at its hook, and the one that stands in for it, if there is one.
type attached struct {
	name                string
	program, understudy *ebpf.Program
}

var _ source.Source = (*Source)(nil)

// New loads and attaches the programs of the families that the options name. A hook that cannot be
// had costs itself only and is told by Capabilities; if none at all can be had, that is an error.
func New(options Options, logger *zap.Logger) (source.Source, error) {
	s := &Source{options: options, logger: logger, poll: noPoll, stopReports: make(chan struct{})}
	s.options.Families = append(slices.Clone(options.Families), familyCgroup)
	s.limits, s.summing = newLimits(s), newSumming(s)
	if err := s.open(); err != nil {
		return nil, errors.Join(err, s.Close())
	}
	return s, nil
}

func (s *Source) open() error {
	if err := checkPrivileges(); err != nil {
		return err
	}
	var err error
	if s.sensitive, err = newSensitiveSet(s.options.Security.Paths); err != nil {
		return err
	}
	if s.scope, err = resolveScope(s.options.Cgroups); err != nil {
		return err
	}
	if err := rlimit.RemoveMemlock(); err != nil {
		return fmt.Errorf("lift the memory limit that Linux before 5.11 sets for eBPF (add CAP_SYS_RESOURCE there): %w", err)
	}
	programs, err := s.load()
	if err != nil {
		return err
	}
	if err := s.openRings(); err != nil {
		return err
	}
	if err := s.attachAll(programs); err != nil {
		return err
	}
	s.reportConnectionsOfEtcd()
	s.logHooks()
	if err := s.checkAttached(); err != nil {
		return err
	}
	s.startReports()
	return nil
}

func (s *Source) load() ([]program, error) {
	types, err := readTypes()
	if err != nil {
		return nil, err
	}
	self, err := ownPID()
	if err != nil {
		return nil, explain(err)
	}
	s.foreignPIDs = int(self) != os.Getpid()
	if err := checkReading(); err != nil {
		return nil, explain(err)
	}
	features, err := detectFeatures(types)
	if err != nil {
		return nil, err
	}
	s.features = features
	s.loader = s.newLoader(features, self, types)
	var programs []program
	for _, o := range objects {
		if !slices.ContainsFunc(o.families, s.wants) {
			continue
		}
		loaded, err := s.loader.loadObject(o, s.options, features)
		if err != nil {
			return nil, explain(err)
		}
		programs = append(programs, loaded...)
	}
	s.loader.types = nil // megabytes that only loading needs
	return programs, s.nameScope()
}

func (s *Source) wants(family string) bool { return slices.Contains(s.options.Families, family) }

// explain adds what is most likely behind a refusal in spite of all capabilities.
func explain(err error) error {
	if isDenied(err) {
		return fmt.Errorf("%w (the capabilities are there, but the kernel refuses: a user namespace other than the host's, or a seccomp profile that blocks bpf(2))", err)
	}
	return err
}

// nameScope tells the programs the cgroups in scope.
func (s *Source) nameScope() error {
	if s.scope.wholeNode {
		return nil
	}
	for _, group := range s.scope.cgroups {
		if err := s.loader.shared["scope_cgroups"].Put(group.id, uint8(1)); err != nil {
			return fmt.Errorf("put cgroup %s in scope: %w", group.path, err)
		}
	}
	return nil
}

func (s *Source) openRings() error {
	var err error
	if s.lifecycle, err = ringbuf.NewReader(s.loader.shared["lifecycle_ring"]); err != nil {
		return fmt.Errorf("read ring for lifecycle records: %w", err)
	}
	if s.traffic, err = ringbuf.NewReader(s.loader.shared["traffic_ring"]); err != nil {
		return fmt.Errorf("read ring for traffic records: %w", err)
	}
	s.poll, err = openPoll(s.loader.shared["lifecycle_ring"], s.loader.shared["traffic_ring"])
	return err
}

// attachAll runs the iterators when the others are attached, and look: what happens meanwhile is seen by these.
func (s *Source) attachAll(programs []program) error {
	isIterator := func(p program) bool { _, ok := iterators[p.name]; return ok }
	s.attachEach(slices.DeleteFunc(slices.Clone(programs), isIterator))
	if err := errors.Join(s.dropHalf(), s.setWatch(watching)); err != nil {
		return err
	}
	s.isWatching = true
	s.attachEach(slices.DeleteFunc(slices.Clone(programs), func(p program) bool { return !isIterator(p) }))
	return nil
}

func (s *Source) attachEach(programs []program) {
	for _, p := range programs {
		if understudied, ok := understudies[p.name]; ok {
			s.attachUnderstudy(p, understudied)
			continue
		}
		s.reportHook(p.families, p.hook(), s.attach(p))
		s.programs[len(s.programs)-len(p.families)] = attached{name: p.name, program: p.program} // its missed runs are counted once
	}
}

// attachUnderstudy is for programs that come after those for which they stand in. Without one, more
// runs count as missed.
func (s *Source) attachUnderstudy(p program, name string) {
	i := slices.IndexFunc(s.programs, func(a attached) bool { return a.name == name })
	if i < 0 || s.capabilities[i].State != source.Attached {
		return
	}
	if err := s.attach(p); err != nil {
		s.logger.Warn("Runs that the kernel leaves out cannot be made up for", zap.String("hook", p.hook()), zap.Error(err))
		return
	}
	s.programs[i].understudy = p.program
}

// reportHook notes whether a hook is in use, and why not.
func (s *Source) reportHook(families []string, hook string, err error) {
	for _, family := range families {
		s.capabilities = append(s.capabilities, capabilityOf(family, hook, err))
		s.programs = append(s.programs, attached{})
	}
}

func capabilityOf(family, hook string, err error) source.Capability {
	capability := source.Capability{Family: family, Hook: hook, State: source.Attached}
	if err != nil {
		capability.State, capability.Reason = source.Unsupported, reasonOf(err)
		if isDenied(err) {
			capability.State = source.Denied
		}
	}
	return capability
}

// logHooks is one line, since the collector's logger drops lines that are too much alike.
func (s *Source) logHooks() {
	var attached, missing []string
	for _, c := range s.capabilities {
		if c.State == source.Attached {
			attached = append(attached, c.Hook)
			continue
		}
		missing = append(missing, fmt.Sprintf("%s is %s: %s", c.Hook, c.State, c.Reason))
	}
	attached, missing = unique(attached), unique(missing)
	if len(missing) > 0 {
		s.logger.Warn("Some hooks in the kernel cannot be had", zap.Strings("attached", attached), zap.Strings("missing", missing))
		return
	}
	s.logger.Info("All hooks in the kernel are attached", zap.Strings("attached", attached))
}

// unique leaves out what a hook's next family says again.
func unique(lines []string) []string {
	slices.Sort(lines)
	return slices.Compact(lines)
}

// reasonOf is one line, also of a verifier's log: the last one, before what it cost, or, since Linux 7, the one below a heading,
// since advice comes then.
func reasonOf(err error) string {
	var verifier *ebpf.VerifierError
	if !errors.As(err, &verifier) {
		return err.Error()
	}
	reason := verifier.Cause.Error()
	if i := slices.Index(verifier.Log, "Reason:"); i >= 0 && i+1 < len(verifier.Log) {
		return reason + ": " + strings.TrimSpace(verifier.Log[i+1])
	}
	for _, line := range slices.Backward(verifier.Log) {
		if line != "" && !strings.HasPrefix(line, "processed ") {
			return reason + ": " + line
		}
	}
	return reason
}

func (s *Source) checkAttached() error {
	var reasons []string
	for _, c := range s.capabilities {
		if c.Family == familyCgroup {
			continue // it says of events whose they are, and makes none
		}
		if c.State == source.Attached {
			return nil
		}
		reasons = append(reasons, fmt.Sprintf("%s is %s: %s", c.Hook, c.State, c.Reason))
	}
	return fmt.Errorf("not one hook of the families %s can be had on this kernel: %s",
		strings.Join(s.options.Families[:len(s.options.Families)-1], ", "), strings.Join(reasons, "; "))
}

// Name implements source.Source.
func (*Source) Name() string { return Name }

// HostName implements source.Source.
func (*Source) HostName() (string, error) {
	name, err := os.Hostname()
	if err != nil {
		return "", fmt.Errorf("read the host's name: %w", err)
	}
	return name, nil
}

// Patient implements source.Source: a ring that is not read becomes full.
func (*Source) Patient() bool { return false }

// Behind implements source.Source.
func (s *Source) Behind() bool { return s.behind }

// Boot implements source.Source.
func (*Source) Boot() uint64 {
	now, _ := clock(unix.CLOCK_BOOTTIME) // each kernel that has eBPF has it
	return uint64(now)
}

// Wall implements source.Source.
func (*Source) Wall() time.Time { return time.Now() }

// Capabilities implements source.Source.
func (s *Source) Capabilities() []source.Capability {
	now := slices.Clone(s.capabilities)
	for i, p := range s.programs {
		now[i].MissedRuns = missedRuns(p.program)
		if p.understudy != nil {
			now[i].MissedRuns = min(now[i].MissedRuns, missedRuns(p.understudy)) // what both missed
		}
	}
	return now
}

// missedRuns of a program. Linux before 5.12 neither leaves out runs nor counts them.
func missedRuns(p *ebpf.Program) uint64 {
	if p == nil {
		return 0
	}
	stats, err := p.Stats()
	if err != nil {
		return 0
	}
	return stats.RecursionMisses
}

// Counters implements source.Source.
func (s *Source) Counters() (map[uint8]source.Counters, error) {
	counters := map[uint8]source.Counters{}
	for family := range uint32(bpf.WireEventFamilyFAMILY_COUNT) {
		var perCPU []bpf.WireEventCounters
		if err := s.loader.shared["event_counts"].Lookup(family, &perCPU); err != nil {
			return nil, fmt.Errorf("read the kernel's event counts: %w", err)
		}
		var sum source.Counters
		for _, c := range perCPU {
			sum.Seen += c.Seen
			sum.RingFull += c.RingFull
			sum.TableFull += c.TableFull
			sum.Unreadable += c.Unreadable
			sum.Throttled += c.Throttled
		}
		if sum.Seen > 0 {
			counters[uint8(family)] = sum
		}
	}
	if made := s.limits.made.Load() + s.summing.made(); made > 0 {
		counters[uint8(event.FamilyThrottle)] = source.Counters{Seen: made}
	}
	return counters, nil
}

// startReports runs the iterators that report what lasts. They have a goroutine of their own,
// since they fill the ring that the reader empties.
func (s *Source) startReports() {
	if len(s.reporters) == 0 {
		return
	}
	s.reports.Go(func() {
		ticker := time.NewTicker(s.reportTick())
		defer ticker.Stop()
		for {
			select {
			case <-s.stopReports:
				return
			case <-ticker.C:
				s.runReports()
			}
		}
	})
}

// reportTick is shorter than the interval: a connection is due at its own time.
func (s *Source) reportTick() time.Duration {
	return max(s.options.ReportInterval/6, 100*time.Millisecond)
}

func (s *Source) runReports() {
	if err := s.beginRound(); err != nil {
		s.logger.Warn("Connections that last were not reported this time", zap.Error(err))
		return
	}
	for _, reporter := range s.reporters {
		if err := run(reporter); err != nil {
			s.logger.Warn("Connections that last were not reported this time", zap.Error(err))
		}
	}
}

// Stop implements source.Source. Sockets are not looked at any more from one moment on; what connections and flows that last have
// carried since it was said last is said then, and read while the programs are detached.
func (s *Source) Stop(handle func(record []byte)) error {
	if s.stopped {
		return nil
	}
	s.stopped, s.behind = true, false
	detached := make(chan error, 1)
	go func() { detached <- s.detachAll() }()
	for readable := true; ; {
		select {
		case err := <-detached:
			return err
		case <-time.After(time.Millisecond):
			readable = readable && s.drainRings(handle) == nil // whoever reads next is told the error
		}
	}
}

func (s *Source) detachAll() error {
	close(s.stopReports)
	s.reports.Wait()
	var errs []error
	if s.isWatching {
		errs = append(errs, s.setWatch(s.Boot()), s.loader.awaitPrograms())
		s.runLastReports()
	}
	for _, reporter := range s.reporters {
		errs = append(errs, reporter.Close())
	}
	for _, l := range s.links {
		errs = append(errs, l.Close())
	}
	return errors.Join(errs...)
}

// lastRounds are run at the most, lastRoundEvery: each tells what the ring has room for, while it is read.
const (
	lastRounds     = 100
	lastRoundEvery = 10 * time.Millisecond
)

// runLastReports until there is nothing more to be told.
func (s *Source) runLastReports() {
	for range lastRounds {
		before, hasRoom := s.seenOfNetwork(), s.traffic.AvailableBytes() < s.traffic.BufferSize()/2
		s.runReports()
		if hasRoom && s.seenOfNetwork() == before {
			return
		}
		time.Sleep(lastRoundEvery)
	}
	s.logger.Warn("Connections that last could not all be told at the end: their records are not read fast enough")
}

func (s *Source) seenOfNetwork() uint64 {
	counters, err := s.Counters()
	if err != nil {
		return 0
	}
	return counters[uint8(event.FamilyNetwork)].Seen
}

// Close implements source.Source.
func (s *Source) Close() error {
	errs := []error{s.Stop(func([]byte) {}), s.executables.close()}
	for _, reader := range []*ringbuf.Reader{s.lifecycle, s.traffic} {
		if reader != nil {
			errs = append(errs, reader.Close())
		}
	}
	if s.poll != noPoll {
		errs = append(errs, unix.Close(s.poll))
		s.poll = noPoll
	}
	if s.loader != nil {
		errs = append(errs, s.loader.close())
	}
	return errors.Join(errs...)
}
