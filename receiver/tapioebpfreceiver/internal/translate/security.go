// Copyright The otelcol-tapio Authors
// SPDX-License-Identifier: Apache-2.0

package translate // import "github.com/tapio-io/otelcol-tapio/receiver/tapioebpfreceiver/internal/translate"

import (
	"time"

	"go.opentelemetry.io/collector/pdata/pcommon"
	"go.opentelemetry.io/collector/pdata/plog"
	"go.opentelemetry.io/collector/pdata/ptrace"

	"github.com/tapio-io/otelcol-tapio/receiver/tapioebpfreceiver/internal/correlate"
	"github.com/tapio-io/otelcol-tapio/receiver/tapioebpfreceiver/internal/event"
	"github.com/tapio-io/otelcol-tapio/receiver/tapioebpfreceiver/internal/identity"
)

// SecurityOptions say which actions are told, and how.
type SecurityOptions struct {
	// Rules by kind.
	Rules [event.SecurityKindCount]SecurityRule
	// Paths are the sensitive ones, in the order in which the source knows them.
	Paths []SensitivePath
	// Shells are names of programs, or PathPatterns, that are told with a socket as standard input.
	Shells []string
	// EveryCredentialChange says whether changes that give a process nothing more are told, too.
	EveryCredentialChange bool
	// FoldInterval is how long repeats are folded; 0: each is told.
	FoldInterval time.Duration
}

// SecurityRule of one kind.
type SecurityRule struct {
	Enabled  bool
	Severity plog.SeverityNumber
	Allow    SecurityAllow
}

// SensitivePath is one that is not to be opened by just anybody.
type SensitivePath struct {
	Pattern PathPattern
	// Technique of MITRE ATT&CK that opening it is; empty: none fits.
	Technique string
	// OnWrite says that the technique is to change it, not to read it.
	OnWrite bool
	// Readers are executables outside of containers that open it as a matter of course.
	Readers []PathPattern
	// FirstProgram says that a container's first program does, too.
	FirstProgram bool
}

// security is what the translator knows of the family.
type security struct {
	*Translator
	options SecurityOptions
	texts   texts
	folds   folds
	acting  action // used again and again
	scratch []byte
}

func newSecurity(t *Translator, options SecurityOptions) *security {
	return &security{Translator: t, options: options, texts: texts{}, folds: newFolds(uint64(options.FoldInterval))}
}

// action is one with what is known of who did it.
type action struct {
	event.SecurityAction
	kind     event.SecurityKind
	rule     *SecurityRule
	path     string // of the file, target, module or program; empty: there is none
	process  *identity.Process
	resource *identity.Resource
	at       *SensitivePath // nil: not one of the list
}

// securityAction: an action that a rule leaves out ends here, one that repeats another is folded.
func (t *Translator) securityAction(record []byte) (outcome, error) {
	e, err := event.DecodeSecurityAction(record)
	if err != nil {
		return absorbed, err
	}
	s := t.security
	s.take(e)
	defer s.letGo()
	a := &s.acting
	if !a.rule.Enabled || !s.isWorthIt(a) || s.isAllowed(a) {
		return excluded, nil
	}
	t.metrics.acted(a, t.wall(e.Header.Time))
	if !t.signals.Logs && !t.signals.Traces {
		return t.outcomeIf(false), nil
	}
	if s.fold(a) {
		return held, nil
	}
	s.tell(a)
	return carried, nil
}

// letGo of a record, which is valid only during the call.
func (s *security) letGo() { s.acting = action{} }

// take an action, and what is known of it.
func (s *security) take(e event.SecurityAction) {
	a := &s.acting
	*a = action{SecurityAction: e, kind: event.SecurityKind(e.Kind)}
	a.rule = &s.options.Rules[a.kind]
	a.process = s.index.Find(e.Header.Pid, e.Header.StartTime)
	if a.process != nil {
		s.index.Moved(a.process, e.Header.CgroupId)
	}
	a.resource = s.index.ResourceOf(&e.Header, a.process)
	if e.HasPath() {
		s.scratch = e.AppendPath(s.scratch[:0])
		a.path = s.texts.of(s.scratch)
	}
	a.at = s.sensitivePath(a)
}

func (a *action) outcome() string {
	if a.Denied() {
		return outcomeDenied
	}
	return outcomeAllowed
}

// tell an action in the batch.
func (s *security) tell(a *action) {
	var told telling
	if s.signals.Logs {
		told.log = s.builder.record(a.resource)
	}
	if s.signals.Traces {
		told.span = s.builder.span(a.resource)
	}
	s.fill(&told, a)
}

// telling is what is told of an action: a log record and a span, as far as they are wired.
type telling struct {
	log  plog.LogRecord
	span ptrace.Span
}

func (s *security) fill(told *telling, a *action) {
	now := s.wall(a.Header.Time)
	attributes := pcommon.NewMap()
	s.describeAction(&s.list, a)
	s.list.moveTo(attributes)
	if s.signals.Traces {
		s.fillSpan(told.span, a, attributes, now)
	}
	if !s.signals.Logs {
		return
	}
	fillLog(told.log, abouts[a.kind].event, now, a.rule.Severity)
	switch {
	case s.signals.Traces:
		told.log.SetTraceID(told.span.TraceID())
		told.log.SetSpanID(told.span.SpanID())
	case a.process != nil:
		setTraceContext(told.log, a.process)
	}
	attributes.MoveTo(told.log.Attributes())
}

func (s *security) fillSpan(span ptrace.Span, a *action, attributes pcommon.Map, now pcommon.Timestamp) {
	fillSpan(span, abouts[a.kind].span, ptrace.SpanKindInternal, now, now)
	var program *identity.Program
	if a.process != nil {
		program = a.process.Program
	}
	place := correlate.PlaceOfAction(program, s.ids)
	setPlace(span, &place)
	attributes.CopyTo(span.Attributes())
	if a.Denied() {
		span.Status().SetCode(ptrace.StatusCodeError)
	}
}
