// Copyright The otelcol-tapio Authors
// SPDX-License-Identifier: Apache-2.0

package tapiojoinprocessor // import "github.com/tapio-io/otelcol-tapio/processor/tapiojoinprocessor"

import (
	"container/list"
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	"github.com/hashicorp/golang-lru/v2/simplelru"
	"go.opentelemetry.io/collector/component"
	"go.opentelemetry.io/collector/consumer"
	"go.opentelemetry.io/collector/processor"
	"go.uber.org/zap"

	"github.com/tapio-io/otelcol-tapio/internal/links"
	"github.com/tapio-io/otelcol-tapio/processor/tapiojoinprocessor/internal/metadata"
)

// joiner knows where the traces of links belong. Each trace has one fate, which is decided once and is that
// of all its spans, so that none is joined by half. It is one for all pipelines of the processor.
type joiner struct {
	config    *Config
	logger    *zap.Logger
	telemetry *metadata.TelemetryBuilder
	users     int // instances.mu guards it

	startOnce         sync.Once
	stopping, stopped chan struct{}

	mu        sync.Mutex // guards what follows, and what the pipelines are to send
	now       time.Time
	fates     *simplelru.LRU[links.Link, *fate]
	open      map[links.Link]*openTrace
	waiting   list.List // of *openTrace that wait for nothing that is known, the oldest first
	held      int
	pipelines []pipeline
	counts    counts
}

// pipeline is one that the processor is in.
type pipeline interface {
	// takeReleased returns what sends to the next component what waits no longer; nil: there is nothing.
	takeReleased() func()
}

// part is what the processor is in each pipeline.
type part struct {
	joiner    *joiner
	leaveOnce sync.Once
	sending   sync.WaitGroup // of what waited, to this pipeline's next component
}

// Start implements component.Component.
func (p *part) Start(context.Context, component.Host) error { return p.joiner.start() }

// leaveTimeout is how long the next component has to take what still waits. The collector sets no limit, and an exporter that
// tries again and again stops only when it is its turn to be shut down.
const leaveTimeout = 5 * time.Second

// Shutdown implements component.Component.
func (p *part) Shutdown(ctx context.Context) (err error) {
	p.leaveOnce.Do(func() {
		ctx, cancel := context.WithTimeout(ctx, leaveTimeout)
		defer cancel()
		isLast, left := p.joiner.leave(ctx)
		err = errors.Join(left, p.awaitSent(ctx))
		if isLast {
			p.joiner.telemetry.Shutdown()
		}
	})
	return err
}

// awaitSent returns when nothing more comes from here: what expired a moment before may be on its way.
func (p *part) awaitSent(ctx context.Context) error {
	sent := make(chan struct{})
	go func() {
		p.sending.Wait()
		close(sent)
	}()
	select {
	case <-sent:
		return nil
	case <-ctx.Done():
		return fmt.Errorf("wait for the next component to take what has waited: %w", ctx.Err())
	}
}

// Capabilities implements consumer.Traces and consumer.Logs: ids are changed.
func (p *part) Capabilities() consumer.Capabilities { return consumer.Capabilities{MutatesData: true} }

// item is a span or log record that waits.
type item interface {
	of() signal
	// release has its pipeline send it, as a part of the trace that its own belongs to.
	release(*fate)
}

// waiter is an item with the link that its trace's id is made of.
type waiter struct {
	link links.Link
	item item
}

// openTrace is one whose fate is not known.
type openTrace struct {
	link  links.Link
	since time.Time
	place *list.Element // in joiner.waiting
	items []item
	// leader is the trace with the client's span, when that has come, and is open itself.
	leader    *openTrace
	client    traceContext // in the leader
	followers []*openTrace
}

func newJoiner(set processor.Settings, cfg *Config) (*joiner, error) {
	fates, err := simplelru.NewLRU[links.Link, *fate](cfg.MaxRemembered, nil)
	if err != nil {
		return nil, fmt.Errorf("make room for %d traces: %w", cfg.MaxRemembered, err)
	}
	telemetry, err := metadata.NewTelemetryBuilder(set.TelemetrySettings)
	if err != nil {
		return nil, fmt.Errorf("create the processor's own telemetry: %w", err)
	}
	return &joiner{
		config: cfg, logger: set.Logger, telemetry: telemetry,
		stopping: make(chan struct{}), stopped: make(chan struct{}),
		fates: fates, open: map[links.Link]*openTrace{},
	}, nil
}

func (j *joiner) add(p pipeline) {
	j.mu.Lock()
	defer j.mu.Unlock()
	j.pipelines = append(j.pipelines, p)
}

// --- lifecycle -----------------------------------------------------------------------------------

// start is called once a pipeline.
func (j *joiner) start() (err error) {
	j.startOnce.Do(func() {
		err = j.observe()
		go j.run()
	})
	return err
}

// run gives up on what has waited long enough, until the joiner is stopped.
func (j *joiner) run() {
	defer close(j.stopped)
	const longest, shortest = time.Second, 10 * time.Millisecond
	ticker := time.NewTicker(max(min(j.config.MaxWait/10, longest), shortest))
	defer ticker.Stop()
	for {
		select {
		case <-ticker.C:
			send(j.locked(j.expire))
		case <-j.stopping:
			return
		}
	}
}

// leave is called once a pipeline: what waits goes on as it is, while there is somewhere to go. Who leaves waits for what is
// its own.
func (j *joiner) leave(ctx context.Context) (isLast bool, err error) {
	for _, send := range j.locked(func() { j.giveUpAll(outcomeShutdown) }) {
		go send()
	}
	if !shared.leave(j) {
		return false, nil
	}
	close(j.stopping)
	j.startOnce.Do(func() { close(j.stopped) }) // it never started
	select {
	case <-j.stopped:
		return true, nil
	case <-ctx.Done():
		return true, fmt.Errorf("wait for the last turn: %w", ctx.Err())
	}
}

// --- the way of a batch --------------------------------------------------------------------------

// consume has a batch sorted into what goes on and what waits, and passes on the former. Only when that was
// taken does the rest wait: where it is refused, the sender has all of it, and sends it again.
func (j *joiner) consume(sort func() []waiter, pass func() error) error {
	var waiters []waiter
	send(j.locked(func() { waiters = sort() }))
	if err := pass(); err != nil {
		return err
	}
	if len(waiters) > 0 {
		send(j.locked(func() { j.holdAll(waiters) }))
	}
	return nil
}

// locked runs what may decide on traces, and returns what sends those that wait no longer.
func (j *joiner) locked(run func()) (released []func()) {
	j.mu.Lock()
	defer j.mu.Unlock()
	j.now = time.Now()
	run()
	for _, p := range j.pipelines {
		if send := p.takeReleased(); send != nil {
			released = append(released, send)
		}
	}
	return released
}

func send(released []func()) {
	for _, send := range released {
		send()
	}
}

// --- what is known -------------------------------------------------------------------------------

// fateOf a trace; nil: it is not known.
func (j *joiner) fateOf(link links.Link) *fate {
	f, ok := j.fates.Get(link)
	if !ok {
		return nil
	}
	f.used = j.now
	return f
}

// connect notes that the client's span of a link is in a trace: the link's trace is a part of that.
func (j *joiner) connect(link links.Link, client traceContext) {
	if j.fates.Contains(link) {
		return
	}
	clients, isOfLink := links.OfTrace(client.traceID)
	if !isOfLink {
		j.decideAs(link, &fate{}, client)
		return
	}
	if f := j.fateOf(clients); f != nil {
		j.decideAs(link, f, client)
		return
	}
	j.follow(link, clients, client)
}

// decideAs has a link's trace follow that of its client.
func (j *joiner) decideAs(link links.Link, clients *fate, client traceContext) {
	f, outcome := clients.below(client)
	j.decide(link, f, outcome)
}

// alone notes that nothing has caused a link's request, so that its trace is its own.
func (j *joiner) alone(link links.Link) {
	if !j.fates.Contains(link) {
		j.decide(link, &fate{}, outcomeAlone)
	}
}

// follow has a trace wait for the fate of the one that its client's span is in.
func (j *joiner) follow(link, clients links.Link, client traceContext) {
	leader := j.openTrace(clients)
	if leader == nil {
		j.decideAs(link, &fate{}, client)
		return
	}
	follower := j.openTrace(link)
	if follower == nil || follower.leader != nil {
		return
	}
	if !leader.mayLead(follower) {
		j.decide(link, &fate{}, outcomeOverflow)
		return
	}
	follower.leader, follower.client = leader, client
	leader.followers = append(leader.followers, follower)
	j.waiting.Remove(follower.place)
}

// mayLead says that the trace does not wait for the other one, and that the chain is not too long.
func (t *openTrace) mayLead(follower *openTrace) bool {
	hops := 0
	for ; t != nil && t != follower && hops < maxHops; t = t.leader {
		hops++
	}
	return t == nil
}

// openTrace returns a trace that is not decided; nil: there is no room for one more, which decides it.
func (j *joiner) openTrace(link links.Link) *openTrace {
	if t := j.open[link]; t != nil {
		return t
	}
	if len(j.open) >= j.config.MaxHeld {
		j.decide(link, &fate{}, outcomeOverflow)
		return nil
	}
	t := &openTrace{link: link, since: j.now}
	t.place = j.waiting.PushBack(t)
	j.open[link] = t
	return t
}

// --- waiting -------------------------------------------------------------------------------------

func (j *joiner) holdAll(waiters []waiter) {
	for _, w := range waiters {
		j.hold(w)
	}
}

// hold has an item wait, unless its trace was decided meanwhile, or must be for want of room.
func (j *joiner) hold(w waiter) {
	f := j.fateOf(w.link)
	if f == nil && j.held >= j.config.MaxHeld {
		f = j.decide(w.link, &fate{}, outcomeOverflow)
	}
	if f == nil {
		if t := j.openTrace(w.link); t != nil {
			t.items = append(t.items, w.item)
			j.count(w.item, +1)
			return
		}
		f = &fate{}
	}
	w.item.release(f)
}

// expire gives up on what has waited long enough, and forgets what was not used for long.
func (j *joiner) expire() {
	for front := j.waiting.Front(); front != nil; front = j.waiting.Front() {
		t := front.Value.(*openTrace)
		if j.now.Sub(t.since) < j.config.MaxWait {
			break
		}
		j.decide(t.link, &fate{}, outcomeExpired)
	}
	for {
		_, oldest, ok := j.fates.GetOldest()
		if !ok || j.now.Sub(oldest.used) < j.config.Remember {
			return
		}
		j.fates.RemoveOldest()
	}
}

// giveUpAll ends all waiting. Each chain of open traces begins with one that waits for nothing known.
func (j *joiner) giveUpAll(outcome outcome) {
	for front := j.waiting.Front(); front != nil; front = j.waiting.Front() {
		j.decide(front.Value.(*openTrace).link, &fate{}, outcome)
	}
}

// --- decisions -----------------------------------------------------------------------------------

// decide on a trace, and on those that wait for it. Their items go out when all of that is known, since a
// client's span has a link to be removed if the server's is in its trace.
func (j *joiner) decide(link links.Link, f *fate, outcome outcome) *fate {
	first := &decision{trace: j.open[link], fate: f, outcome: outcome}
	j.settle(link, first)
	decided := []*decision{first}
	for i := 0; i < len(decided); i++ {
		d := decided[i]
		if d.trace == nil {
			continue
		}
		for _, follower := range d.trace.followers {
			if j.open[follower.link] != follower {
				continue // it was decided before
			}
			below := &decision{trace: follower}
			below.fate, below.outcome = d.fate.below(follower.client)
			j.settle(follower.link, below)
			decided = append(decided, below)
		}
	}
	for _, d := range decided {
		j.release(d)
	}
	return f
}

type decision struct {
	trace   *openTrace // nil: nothing waits for it
	fate    *fate
	outcome outcome
}

func (j *joiner) settle(link links.Link, d *decision) {
	d.fate.used = j.now
	j.fates.Add(link, d.fate)
	j.counts.traces[d.outcome]++
	if d.trace == nil {
		return
	}
	delete(j.open, link)
	j.waiting.Remove(d.trace.place) // does nothing where the trace had a leader
}

func (j *joiner) release(d *decision) {
	if d.trace == nil {
		return
	}
	for _, item := range d.trace.items {
		j.count(item, -1)
		j.counts.waited[item.of()][d.outcome]++
		item.release(d.fate)
	}
}

func (j *joiner) count(item item, change int) {
	j.held += change
	j.counts.held[item.of()] += int64(change)
}
