// Copyright The otelcol-tapio Authors
// SPDX-License-Identifier: Apache-2.0

package translate // import "github.com/tapio-io/otelcol-tapio/receiver/tapioebpfreceiver/internal/translate"

import (
	"strconv"

	"go.opentelemetry.io/collector/pdata/pcommon"
	"go.opentelemetry.io/collector/pdata/plog"
	"go.opentelemetry.io/collector/pdata/ptrace"

	"github.com/tapio-io/otelcol-tapio/bpf"
	"github.com/tapio-io/otelcol-tapio/receiver/tapioebpfreceiver/internal/correlate"
	"github.com/tapio-io/otelcol-tapio/receiver/tapioebpfreceiver/internal/event"
	"github.com/tapio-io/otelcol-tapio/receiver/tapioebpfreceiver/internal/identity"
)

// processExec: the program that the process ran before has ended, and a new one begins. Its log
// record is made now, its span when it ends.
func (t *Translator) processExec(record []byte) (outcome, error) {
	e, err := event.DecodeProcessExec(record)
	if err != nil {
		return absorbed, err
	}
	before := t.index.Find(e.Header.Pid, e.Header.StartTime)
	hasSpan := t.replacedSpan(before, e.Header.Time)
	program := t.programBefore(before, &e)
	p := t.index.Started(&e)
	if within := t.cni.placeOfProgram(p.Key); within != nil {
		correlate.StartWithin(p, within, program, t.ids, e.Process.Session)
	} else {
		correlate.Start(p, program, t.ids, e.Process.Session)
	}
	t.metrics.processStarted(p.Resource, t.wall(e.Header.Time))
	if t.signals.Logs {
		log := t.log(p.Resource, eventProcessExec, t.wall(e.Header.Time), plog.SeverityNumberInfo)
		setTraceContext(log, p)
		t.describeExec(&t.list, p, 0)
		t.list.moveTo(log.Attributes())
	}
	if wired := t.signals.Logs || hasSpan; wired || !t.signals.Traces {
		return t.outcomeIf(wired), nil
	}
	return absorbed, nil // its span is yet to come
}

// programBefore is what the process ran, or the one that forked it; nil if that is not known.
func (t *Translator) programBefore(before *identity.Process, e *event.ProcessExec) *identity.Program {
	if before == nil {
		before = t.index.Find(e.Process.ParentPid, e.Process.ParentStartTime)
	}
	if before == nil {
		return nil
	}
	return before.Program
}

// replacedSpan ends the span of a program that started another in its place; false if there is none.
func (t *Translator) replacedSpan(p *identity.Process, now uint64) bool {
	if !t.signals.Traces || p == nil || p.Exec.Time == 0 {
		return false
	}
	span := t.execSpan(p, now)
	t.describeExec(&t.list, p, 0)
	t.list.moveTo(span.Attributes())
	return true
}

func (t *Translator) processFork(record []byte) (outcome, error) {
	e, err := event.DecodeProcessFork(record)
	if err != nil {
		return absorbed, err
	}
	p := t.index.Forked(e)
	if t.signals.Logs {
		log := t.log(p.Resource, eventProcessFork, t.wall(e.Header.Time), plog.SeverityNumberInfo)
		setTraceContext(log, p)
		t.list.EnsureCapacity(identityAttributes)
		t.identify(&t.list, p)
		t.list.moveTo(log.Attributes())
	}
	return t.outcomeIf(t.signals.Logs), nil
}

func (t *Translator) processExit(record []byte) (outcome, error) {
	e, err := event.DecodeProcessExit(record)
	if err != nil {
		return absorbed, err
	}
	p := t.index.Find(e.Header.Pid, e.Header.StartTime)
	if p == nil {
		return t.strangersExit(e), nil
	}
	t.index.Moved(p, e.Header.CgroupId)
	ending := endingOf(e)
	t.metrics.processEnded(p.Resource, ending.errorType, t.wall(e.Header.Time))
	hasSpan := t.signals.Traces && p.Exec.Time != 0
	if hasSpan {
		t.exitSpan(p, e, ending)
	}
	if t.signals.Logs {
		log := t.log(p.Resource, eventProcessExit, t.wall(e.Header.Time), ending.severity)
		setTraceContext(log, p)
		t.list.EnsureCapacity(identityAttributes + exitAttributes)
		t.identify(&t.list, p)
		t.describeExit(&t.list, e, ending, p.Exec.PeakBefore)
		t.list.moveTo(log.Attributes())
	}
	t.index.Ended(p, e.Header.Time)
	return t.outcomeIf(t.signals.Logs || hasSpan), nil
}

// strangersExit is the end of a process of which nothing is known, but that it was.
func (t *Translator) strangersExit(e *bpf.WireProcessExit) outcome {
	ending := endingOf(e)
	r := t.index.ResourceOf(&e.Header, nil)
	t.metrics.processEnded(r, ending.errorType, t.wall(e.Header.Time))
	if t.signals.Logs {
		log := t.log(r, eventProcessExit, t.wall(e.Header.Time), ending.severity)
		t.putOwner(&t.list, e.Header.Pid, nil)
		t.describeExit(&t.list, e, ending, 0)
		t.list.moveTo(log.Attributes())
	}
	return t.outcomeIf(t.signals.Logs)
}

// processOOMKill: kernels that tell just a pid cannot tell the scope; a process that is not known
// is then none of ours.
func (t *Translator) processOOMKill(record []byte) (outcome, error) {
	e, err := event.DecodeProcessOOMKill(record)
	if err != nil {
		return absorbed, err
	}
	p, inScope := t.victim(&e.Header)
	if !inScope {
		return excluded, nil
	}
	if t.signals.Logs {
		log := t.log(t.index.ResourceOf(&e.Header, p), eventProcessOOMKill, t.wall(e.Header.Time), plog.SeverityNumberError)
		t.describeVictim(log, e.Header.Pid, p)
	}
	return t.outcomeIf(t.signals.Logs), nil
}

func (t *Translator) victim(header *event.Header) (p *identity.Process, inScope bool) {
	if header.StartTime == 0 {
		p = t.index.FindByPID(header.Pid)
		return p, p != nil
	}
	return t.index.Find(header.Pid, header.StartTime), true
}

func (t *Translator) describeVictim(log plog.LogRecord, pid uint32, p *identity.Process) {
	if p == nil {
		t.putOwner(&t.list, pid, nil)
		t.list.moveTo(log.Attributes())
		return
	}
	setTraceContext(log, p)
	t.list.EnsureCapacity(identityAttributes)
	t.identify(&t.list, p)
	t.list.moveTo(log.Attributes())
}

func (t *Translator) execSpan(p *identity.Process, end uint64) ptrace.Span {
	span := t.builder.span(p.Resource)
	fillSpan(span, spanProcessExec, ptrace.SpanKindInternal, t.wall(p.Exec.Time), t.wall(end))
	place := correlate.PlaceOf(p.Program)
	setPlace(span, &place)
	return span
}

func (t *Translator) exitSpan(p *identity.Process, e *bpf.WireProcessExit, ending ending) {
	span := t.execSpan(p, e.Header.Time)
	t.describeExec(&t.list, p, exitAttributes)
	t.describeExit(&t.list, e, ending, p.Exec.PeakBefore)
	t.list.moveTo(span.Attributes())
	if ending.errorType != "" {
		span.Status().SetCode(ptrace.StatusCodeError)
	}
}

// setTraceContext to the span of the program that runs in the process.
func setTraceContext(log plog.LogRecord, p *identity.Process) {
	if p.Program == nil {
		return
	}
	log.SetTraceID(p.Program.TraceID)
	log.SetSpanID(p.Program.SpanID)
}

// identityAttributes is how many there are as a rule.
const identityAttributes = 7

// identify says which process it is.
func (t *Translator) identify(attributes *attributeList, p *identity.Process) {
	attributes.PutInt(attrProcessPID, int64(p.PID))
	if p.Resource.Name != "" {
		attributes.PutStr(attrProcessExecutableName, p.Resource.Name)
	}
	if p.ParentPID != 0 {
		attributes.PutInt(attrProcessParentPID, int64(p.ParentPID))
	}
	if p.VPID != 0 {
		attributes.PutInt(attrProcessVPID, int64(p.VPID))
	}
	attributes.PutInt(attrProcessUserID, int64(p.EUID))
	attributes.PutInt(attrProcessRealUserID, int64(p.UID))
	attributes.PutStr(attrProcessCreationTime, t.times.format(t.wall(p.StartTime)))
}

// describeExec says what runs in the process; more is the room for attributes to come.
func (t *Translator) describeExec(attributes *attributeList, p *identity.Process, more int) {
	attributes.EnsureCapacity(identityAttributes + 4 + more)
	t.identify(attributes, p)
	if p.Resource.Path != "" {
		attributes.PutStr(attrProcessExecutablePath, p.Resource.Path)
	}
	describeCommand(attributes, p)
}

// describeCommand says how what runs in the process was started.
func describeCommand(attributes *attributeList, p *identity.Process) {
	if p.Directory != "" {
		attributes.PutStr(attrProcessWorkingDirectory, p.Directory)
	}
	if len(p.Arguments) > 0 {
		attributes.PutStr(attrProcessCommand, p.Arguments[0])
		attributes.putStrings(attrProcessCommandArgs, p.Arguments)
	}
	if p.Exec.Flags&event.ExecArgsTruncated != 0 {
		attributes.PutBool(attrProcessArgsTruncated, true)
	}
	if p.Exec.Flags&event.ExecExeUnlinked != 0 {
		attributes.PutBool(attrProcessExeUnlinked, true)
	}
}

func putStrings(attributes pcommon.Map, key string, values []string) {
	fillStrings(attributes.PutEmptySlice(key), values)
}

func fillStrings(slice pcommon.Slice, values []string) {
	slice.EnsureCapacity(len(values))
	for _, value := range values {
		slice.AppendEmpty().SetStr(value)
	}
}

// exitAttributes is how many attributes describeExit adds as a rule.
const exitAttributes = 6

// describeExit adds what is known of an end. What ran before the program had a resident set of peakBefore KiB at its highest.
func (t *Translator) describeExit(attributes *attributeList, e *bpf.WireProcessExit, ending ending, peakBefore uint32) {
	attributes.PutStr(attrProcessExitTime, t.times.format(t.wall(e.Header.Time)))
	if ending.signal != "" {
		attributes.PutStr(attrProcessExitSignal, ending.signal)
	} else {
		attributes.PutInt(attrProcessExitCode, int64(ending.code))
	}
	if ending.errorType != "" {
		attributes.PutStr(attrErrorType, ending.errorType)
	}
	if e.Flags&event.ExitHasUsage != 0 {
		attributes.PutDouble(attrProcessCPUTime, seconds(e.CpuTime))
	}
	if e.PeakMemory > uint64(peakBefore)<<10 { // else it is what ran before that had so much, or the kernel did not count
		attributes.PutInt(attrProcessMemoryPeak, int64(e.PeakMemory))
	}
	if e.Flags&event.ExitHasIO != 0 {
		attributes.PutInt(attrProcessIOReadBytes, int64(e.ReadBytes))
		attributes.PutInt(attrProcessIOWrittenBytes, int64(e.WrittenBytes))
	}
}

// ending is how a process ended.
type ending struct {
	code      int    // of exit(2), where no signal ended it
	signal    string // "SIGKILL"
	errorType string // empty: exit code 0
	severity  plog.SeverityNumber
}

func endingOf(e *bpf.WireProcessExit) ending { return statusEnding(e.Status) }

// statusEnding is that of a status as wait(2) has it.
func statusEnding(raw uint32) ending {
	status := event.WaitStatus(raw)
	if code, ok := status.ExitCode(); ok {
		return ending{code: code, errorType: exitErrorType(code), severity: plog.SeverityNumberInfo}
	}
	name := event.SignalName(status.Signal())
	return ending{signal: name, errorType: name, severity: plog.SeverityNumberWarn}
}

// exitErrors are made once: there are few.
var exitErrors = func() (names [256]string) {
	for code := 1; code < len(names); code++ {
		names[code] = "exit_" + strconv.Itoa(code)
	}
	return names
}()

func exitErrorType(code int) string { return exitErrors[code&0xff] }

func seconds[T uint32 | uint64](ns T) float64 { return float64(ns) / 1e9 }
