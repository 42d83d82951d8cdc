// Copyright The otelcol-tapio Authors
// SPDX-License-Identifier: Apache-2.0

package translate // import "github.com/tapio-io/otelcol-tapio/receiver/tapioebpfreceiver/internal/translate"

import (
	"path"
	"slices"
	"strings"

	"go.opentelemetry.io/collector/pdata/plog"
	"go.opentelemetry.io/collector/pdata/ptrace"

	"github.com/tapio-io/otelcol-tapio/bpf"
	"github.com/tapio-io/otelcol-tapio/receiver/tapioebpfreceiver/internal/correlate"
	"github.com/tapio-io/otelcol-tapio/receiver/tapioebpfreceiver/internal/event"
	"github.com/tapio-io/otelcol-tapio/receiver/tapioebpfreceiver/internal/identity"
	"github.com/tapio-io/otelcol-tapio/receiver/tapioebpfreceiver/internal/ledger"
	"github.com/tapio-io/otelcol-tapio/receiver/tapioebpfreceiver/internal/protocol/cni"
)

const (
	// chainGap is how long after a plugin the next one of its network must have begun. A runner needs a few
	// milliseconds; on a node under load it may wait for a CPU.
	chainGap = 1e9 // ns
	// maxRuns and maxOperations are followed at a time: as many as the programs follow (runs, bpf/cni.h).
	maxRuns       = 1024
	maxOperations = 1024
	// maxRunAge is when the end of a plugin was missed: runners give up after minutes.
	maxRunAge = 3600e9 // ns
	// maxNamespaces whose paths are known; then they are learned anew.
	maxNamespaces = 4096
	// maxPluginAncestors are looked through for a plugin that has another one do its work.
	maxPluginAncestors = 8
)

// operations are what runners have plugins do: one command for one interface of one container.
type operations struct {
	*Translator
	runs  map[identity.Key]*pluginRun // that have not ended
	open  map[operationKey]*operation // that may go on with another plugin
	queue []*operation                // all that were not told, as they began
	paths map[uint32]string           // of network namespaces, by inode
	held  uint64                      // events
}

func newOperations(t *Translator) *operations {
	return &operations{
		Translator: t,
		runs:       map[identity.Key]*pluginRun{},
		open:       map[operationKey]*operation{},
		paths:      map[uint32]string{},
	}
}

// operationKey is the same for all plugins of a chain. The network's name is not among what the kernel sees.
type operationKey struct {
	runner                           identity.Key
	command, container, netns, iface string
}

// operation is told when the last of its plugins has ended. The start of its first one is an event that ends with it.
type operation struct {
	key         operationKey
	environment cni.Environment
	place       correlate.Place
	resource    *identity.Resource
	runnerPID   uint32
	runnerName  string // of its executable; empty: not known
	began       uint64 // CLOCK_BOOTTIME, ns
	ended       uint64 // of the last that has; 0: none has
	plugins     []string
	running     int // delegates counted
	failure     *failure
	netns       uint32
	told        bool
}

// pluginRun is a plugin that runs.
type pluginRun struct {
	key         identity.Key
	operation   *operation
	isDelegate  bool
	isFirst     bool
	isPlaced    bool // its program has its place in the trace
	place       correlate.Place
	environment cni.Environment
	plugin      string
	flags       uint32
	began       uint64
}

// failure is how a plugin failed.
type failure struct {
	cni.Error
	errorType string
	truncated bool
}

// failureOf a plugin; nil if it did what it should.
func failureOf(e *event.CNIEnded) *failure {
	ending := statusEnding(e.Status)
	if ending.errorType == "" {
		return nil
	}
	f := &failure{Error: cni.ParseError(e.Output), errorType: ending.errorType}
	f.truncated = f.Truncated || e.OutputTruncated()
	f.Message, f.Details = identity.RedactMessage(f.Message, f.truncated), identity.RedactMessage(f.Details, f.truncated)
	if told := f.Type(); told != "" {
		f.errorType = told
	}
	return f
}

func (f *failure) typeOrNone() string {
	if f == nil {
		return ""
	}
	return f.errorType
}

// placeOfProgram is that of the run of a plugin, whose program is just about to be told; nil: the process is none,
// or the plugin runs another program in its own place.
func (o *operations) placeOfProgram(process identity.Key) *correlate.Place {
	run := o.runs[process]
	if run == nil || run.isPlaced {
		return nil
	}
	run.isPlaced = true
	return &run.place
}

// --- begun -----------------------------------------------------------------------------------------

// cniBegan: a plugin is told when it has ended.
func (t *Translator) cniBegan(record []byte) (outcome, error) {
	e, err := event.DecodeCNIBegan(record)
	if err != nil {
		return absorbed, err
	}
	o := t.cni
	o.makeRoom()
	run := &pluginRun{
		key:         identity.KeyOf(e.Header.Pid, e.Header.StartTime),
		environment: cni.ParseEnvironment(e.Environment),
		plugin:      strings.ToValidUTF8(path.Base(string(e.Path)), "\uFFFD"),
		flags:       e.Flags,
		began:       e.Header.Time,
	}
	if before := o.runs[run.key]; before != nil {
		o.abandon(before, ledger.LostUnreadable)
	}
	o.held++
	o.runs[run.key] = run
	o.join(run, &e)
	return held, nil
}

// join the operation that the plugin is run for.
func (o *operations) join(run *pluginRun, e *event.CNIBegan) {
	if parent := o.runAbove(&e.Process); parent != nil {
		run.isDelegate, run.operation = true, parent.operation
		run.place = correlate.PlaceWithin(&parent.place, o.ids)
	} else {
		run.operation, run.isFirst = o.operationOf(run, e)
		run.operation.plugins = append(run.operation.plugins, run.plugin)
		run.place = correlate.PlaceWithin(&run.operation.place, o.ids)
	}
	run.operation.running++
}

// runAbove is that of the plugin which has started another one, maybe by a program in between; nil if there is none.
func (o *operations) runAbove(process *bpf.WireProcessIdentity) *pluginRun {
	pid, start := process.ParentPid, process.ParentStartTime
	for range maxPluginAncestors {
		if len(o.runs) == 0 || pid <= 1 {
			return nil
		}
		if run := o.runs[identity.KeyOf(pid, start)]; run != nil {
			return run
		}
		p := o.index.Find(pid, start)
		if p == nil {
			return nil
		}
		if p = o.index.Parent(p); p == nil {
			return nil
		}
		pid, start = p.PID, p.StartTime
	}
	return nil
}

// operationOf a plugin that its runner has started: the chain that it is the next one of, or a new one.
func (o *operations) operationOf(run *pluginRun, e *event.CNIBegan) (of *operation, isNew bool) {
	environment := &run.environment
	key := operationKey{
		runner:  identity.KeyOf(e.Process.ParentPid, e.Process.ParentStartTime),
		command: environment.Command, container: environment.ContainerID, netns: environment.Netns, iface: environment.Interface,
	}
	if known := o.open[key]; known != nil {
		if known.goesOnWith(run) {
			return known, false
		}
		delete(o.open, key)
		if known.running == 0 {
			o.finish(known)
		}
	}
	of = o.begin(key, run, e)
	if environment.IsChained() {
		o.open[key] = of
	}
	return of, true
}

// goesOnWith says that a plugin is the next one of the chain. One that was in it before begins the same anew, as
// when a container is deleted twice.
func (op *operation) goesOnWith(run *pluginRun) bool {
	return op.running == 0 && run.began <= op.ended+chainGap && !slices.Contains(op.plugins, run.plugin)
}

func (o *operations) begin(key operationKey, run *pluginRun, e *event.CNIBegan) *operation {
	op := &operation{key: key, environment: run.environment, began: run.began, runnerPID: e.Process.ParentPid}
	runner := o.index.Find(e.Process.ParentPid, e.Process.ParentStartTime)
	var program *identity.Program
	if runner != nil {
		program, op.resource, op.runnerName = runner.Program, runner.Resource, runner.Resource.Name
	} else {
		op.resource = o.index.ResourceOf(&e.Header, o.index.Find(e.Header.Pid, e.Header.StartTime))
	}
	op.place = correlate.PlaceOfWork(program, run.began, o.ids)
	o.queue = append(o.queue, op)
	return op
}

// --- ended -----------------------------------------------------------------------------------------

// cniEnded tells of a plugin. The start of one whose record was lost is in this one, too.
func (t *Translator) cniEnded(record []byte) (outcome, error) {
	e, err := event.DecodeCNIEnded(record)
	if err != nil {
		return absorbed, err
	}
	o := t.cni
	key := identity.KeyOf(e.Header.Pid, e.Header.StartTime)
	run := o.runs[key]
	if run == nil {
		run = &pluginRun{key: key, began: e.Began, place: correlate.PlaceOfWork(nil, e.Began, o.ids)}
	}
	delete(o.runs, key)
	result := o.tellRun(run, &e)
	if run.operation != nil {
		o.runEnded(run, &e, result)
	}
	return result, nil
}

func (o *operations) runEnded(run *pluginRun, e *event.CNIEnded, result outcome) {
	op := run.operation
	op.running--
	op.ended = max(op.ended, e.Header.Time)
	o.noteNetns(run, e)
	if !run.isDelegate && op.failure == nil {
		op.failure = failureOf(e)
	}
	if !run.isFirst {
		o.release(1, result)
	}
	if op.isOver() {
		o.finish(op)
	}
}

// isOver says that no other plugin will follow: a runner stops at the first that fails.
func (op *operation) isOver() bool {
	return op.running == 0 && (!op.environment.IsChained() || op.failure != nil)
}

// noteNetns: the namespace that a plugin went into is the one whose path it was given.
func (o *operations) noteNetns(run *pluginRun, e *event.CNIEnded) {
	if e.Netns == 0 || run.environment.Netns == "" {
		return
	}
	if run.environment.Netns == run.operation.environment.Netns {
		run.operation.netns = e.Netns
	}
	if len(o.paths) >= maxNamespaces {
		clear(o.paths)
	}
	o.paths[e.Netns] = run.environment.Netns
}

// release events that were held.
func (o *operations) release(events uint64, result outcome) {
	o.held -= events
	o.account(event.FamilyCNI, events, result)
	o.waiting.released()
}

// finish tells an operation.
func (o *operations) finish(op *operation) {
	if op.told {
		return
	}
	op.told = true
	if o.open[op.key] == op {
		delete(o.open, op.key)
	}
	o.metrics.networked(op, o.wall(op.ended))
	if o.signals.Traces {
		span := o.builder.span(op.resource)
		fillSpan(span, spanOfCommand(&op.environment), ptrace.SpanKindInternal, o.wall(op.began), o.wall(op.ended))
		setPlace(span, &op.place)
		o.describeOperation(&o.list, op)
		o.list.moveTo(span.Attributes())
		if op.failure != nil {
			span.Status().SetCode(ptrace.StatusCodeError)
		}
	}
	o.release(1, o.outcomeIf(o.signals.Traces))
}

// abandon a plugin whose end will not be heard of.
func (o *operations) abandon(run *pluginRun, fate ledger.Fate) {
	delete(o.runs, run.key)
	op := run.operation
	op.running--
	if !run.isFirst {
		o.lose(fate)
	}
	if op.running == 0 && op.ended == 0 { // there is nothing to tell, and the first one's start is lost with it
		op.told = true
		if o.open[op.key] == op {
			delete(o.open, op.key)
		}
		o.lose(fate)
	}
}

func (o *operations) lose(fate ledger.Fate) {
	o.held--
	o.ledger.Add(event.FamilyCNI, fate, 1)
	o.waiting.released()
}

// makeRoom for one more.
func (o *operations) makeRoom() {
	if len(o.runs) >= maxRuns {
		var oldest *pluginRun
		for _, run := range o.runs {
			if oldest == nil || run.began < oldest.began {
				oldest = run
			}
		}
		o.abandon(oldest, ledger.LostTableFull)
	}
	if len(o.queue) < maxOperations {
		return
	}
	for _, op := range o.queue {
		if op.running == 0 {
			o.finish(op)
		}
	}
	o.dropTold()
}

func (o *operations) dropTold() {
	o.queue = slices.DeleteFunc(o.queue, func(op *operation) bool { return op.told })
	if len(o.queue) == 0 {
		o.queue = nil // let go of the array
	}
}

// tick ends what was waited for in vain: all older records were handled.
func (o *operations) tick(now uint64) {
	for _, run := range o.runs {
		if run.began+maxRunAge < now {
			o.abandon(run, ledger.LostUnreadable)
		}
	}
	for _, op := range o.queue {
		if op.running == 0 && op.ended+chainGap < now {
			o.finish(op)
		}
	}
	o.dropTold()
}

// flush tells what has ended, since no more will come.
func (o *operations) flush() {
	for _, op := range o.queue {
		if op.ended != 0 {
			o.finish(op)
		}
	}
	o.dropTold()
}

// --- telling ---------------------------------------------------------------------------------------

// tellRun of a plugin: its span, and a log record if it failed.
func (o *operations) tellRun(run *pluginRun, e *event.CNIEnded) outcome {
	p := o.index.Find(e.Header.Pid, e.Header.StartTime)
	r := o.index.ResourceOf(&e.Header, p)
	f := failureOf(e)
	end := o.wall(e.Header.Time)
	o.metrics.ran(r, run, f, elapsed(run.began, e.Header.Time), end)
	if o.signals.Traces {
		span := o.builder.span(r)
		fillSpan(span, spanCNIPlugin, ptrace.SpanKindInternal, o.wall(run.began), end)
		setPlace(span, &run.place)
		o.describeRun(&o.list, run, e, f, p)
		o.list.moveTo(span.Attributes())
		if f != nil {
			span.Status().SetCode(ptrace.StatusCodeError)
		}
	}
	logs := o.signals.Logs && f != nil
	if logs {
		log := o.log(r, eventCNIFailure, end, severityOfFailure(run))
		o.describeRun(&o.list, run, e, f, p)
		o.list.moveTo(log.Attributes())
		if o.signals.Traces {
			log.SetTraceID(run.place.TraceID)
			log.SetSpanID(run.place.SpanID)
		}
	}
	return o.outcomeIf(o.signals.Traces || logs)
}

// elapsed between two times of the kernel's, in seconds.
func elapsed(from, to uint64) float64 { return seconds(max(to, from) - from) }

// severityOfFailure: a plugin that says that it is not ready, or too old, keeps no pod waiting by that alone.
func severityOfFailure(run *pluginRun) plog.SeverityNumber {
	if run.environment.Command == cni.Status || run.environment.Command == cni.Version {
		return plog.SeverityNumberWarn
	}
	return plog.SeverityNumberError
}

// spanOfCommand: whoever sets the variable chooses the command, so only those that are known have names.
func spanOfCommand(environment *cni.Environment) string {
	if !environment.IsKnown() {
		return spanCNIPrefix + "other"
	}
	return spanCNIPrefix + strings.ToLower(environment.Command)
}

// --- network namespaces ----------------------------------------------------------------------------

// cniNamespace: one was made, or removed.
func (t *Translator) cniNamespace(kind event.Type, record []byte) (outcome, error) {
	e, err := event.DecodeCNINamespace(record)
	if err != nil {
		return absorbed, err
	}
	o := t.cni
	p := t.index.Find(e.Header.Pid, e.Header.StartTime)
	r := t.index.ResourceOf(&e.Header, p)
	change := netnsChange{name: changeCreate, span: spanNetnsCreate, errorType: event.ErrnoName(e.Error)}
	if kind == event.TypeCNINetnsRemoved {
		change = netnsChange{name: changeDelete, span: spanNetnsDelete}
	}
	now := t.wall(e.Header.Time)
	t.metrics.namespaceChanged(r, change, now)
	o.tellNamespace(e, change, p, r)
	if kind == event.TypeCNINetnsRemoved {
		delete(o.paths, e.Inode)
	}
	return t.outcomeIf(t.signals.Traces || t.signals.Logs && change.errorType != ""), nil
}

// netnsChange is what happened to a network namespace.
type netnsChange struct {
	name, span string
	errorType  string // empty: it was done
}

// Values of tapio.cni.netns.change.
const (
	changeCreate = "create"
	changeDelete = "delete"
)

func (o *operations) tellNamespace(e *bpf.WireCniNamespace, change netnsChange, p *identity.Process, r *identity.Resource) {
	now := o.wall(e.Header.Time)
	var program *identity.Program
	if p != nil {
		program = p.Program
	}
	place := correlate.PlaceOfAction(program, o.ids)
	if o.signals.Traces {
		span := o.builder.span(r)
		fillSpan(span, change.span, ptrace.SpanKindInternal, now, now)
		setPlace(span, &place)
		o.describeNamespace(&o.list, e, change, p)
		o.list.moveTo(span.Attributes())
		if change.errorType != "" {
			span.Status().SetCode(ptrace.StatusCodeError)
		}
	}
	if !o.signals.Logs || change.errorType == "" {
		return
	}
	log := o.log(r, eventNetnsFailure, now, plog.SeverityNumberError)
	o.describeNamespace(&o.list, e, change, p)
	o.list.moveTo(log.Attributes())
	if o.signals.Traces {
		log.SetTraceID(place.TraceID)
		log.SetSpanID(place.SpanID)
	}
}
