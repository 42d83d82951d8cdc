// Copyright The otelcol-tapio Authors
// SPDX-License-Identifier: Apache-2.0

package correlate // import "github.com/tapio-io/otelcol-tapio/receiver/tapioebpfreceiver/internal/correlate"

import "github.com/tapio-io/otelcol-tapio/receiver/tapioebpfreceiver/internal/identity"

// Limits of what is told as the doing of one program, so that no trace grows without bound.
const (
	maxDepth        = 64     // of programs, and of requests below them
	maxProgramAge   = 3600e9 // ns
	maxDaemonAge    = 60e9   // ns, of one that looks like a daemon
	maxProgramSpans = 1000
)

// Start gives a program that a process has started its span: a child of the one that the process, or
// the process that it was forked from, ran before.
func Start(p *identity.Process, before *identity.Program, ids *IDs, session uint32) {
	program := newProgram(p, before, ids, session)
	if !beginsAnew(program, before) && adopts(before, p.Exec.Time) && before.Depth+1 < maxDepth {
		program.TraceID, program.ParentID, program.Depth = before.TraceID, before.SpanID, before.Depth+1
		return
	}
	program.TraceID = ids.TraceID()
}

// StartWithin gives a program its span that is run for something which has a span itself: it is that one's child.
func StartWithin(p *identity.Process, within *Place, before *identity.Program, ids *IDs, session uint32) {
	program := newProgram(p, before, ids, session)
	program.TraceID, program.ParentID = within.TraceID, within.SpanID
	if before != nil && before.TraceID == within.TraceID {
		program.Depth = before.Depth + 1
	}
}

func newProgram(p *identity.Process, before *identity.Program, ids *IDs, session uint32) *identity.Program {
	program := &identity.Program{Owner: p.Key, Session: session, Started: p.Exec.Time, SpanID: ids.SpanID()}
	program.IsFirst = p.VPID == 1
	program.Contained = p.Resource != nil && !p.Resource.IsHost()
	program.LooksLikeDaemon = p.ParentPID <= 1 || program.IsFirst || before != nil && before.IsFirst && before.Owner != p.Key
	p.Program = program
	return program
}

// beginsAnew says that a new session begins with the program: a job of cron's, a login, a container's
// first process or one that is run in it later. Whoever started that is not what it is about.
func beginsAnew(program, before *identity.Program) bool {
	if program.Session != program.Owner.PID || before == nil {
		return false
	}
	isSameSession := before.Owner == program.Owner && before.Session == program.Session
	return !isSameSession
}

// adopts says whether the program's span may have one more child, and counts it. What a server does is
// done for those that it serves; a daemon's start is not the cause of all that it ever does.
func adopts(program *identity.Program, now uint64) bool {
	if program == nil || program.Serves || program.Spans >= maxProgramSpans {
		return false
	}
	age := uint64(maxProgramAge)
	if program.LooksLikeDaemon {
		age = maxDaemonAge
	}
	if now > program.Started+age {
		return false
	}
	program.Spans++
	return true
}

// PlaceOf a program's own span.
func PlaceOf(program *identity.Program) Place {
	return Place{
		TraceID: program.TraceID, SpanID: program.SpanID, ParentID: program.ParentID,
		Flags: ownFlags | flagHas, depth: program.Depth,
	}
}

// PlaceOfWork is that of something which a program has others do: where these would be if they did it on their own.
func PlaceOfWork(program *identity.Program, now uint64, ids *IDs) Place {
	place := Place{SpanID: ids.SpanID(), Flags: ownFlags | flagHas}
	if !adopts(program, now) || program.Depth+1 >= maxDepth {
		place.TraceID = ids.TraceID()
		return place
	}
	place.TraceID, place.ParentID, place.depth = program.TraceID, program.SpanID, program.Depth+1
	return place
}

// PlaceWithin is that of a part of something.
func PlaceWithin(whole *Place, ids *IDs) Place {
	place := Place{SpanID: ids.SpanID()}
	place.below(whole, false)
	return place
}

// PlaceOfAction is that of something which a program did at one moment: below its span, also if that is a
// server's, since it is the process that it is about. A program that is not known, or has too many spans
// below it, gives none: it is a trace of its own.
func PlaceOfAction(program *identity.Program, ids *IDs) Place {
	place := Place{SpanID: ids.SpanID(), Flags: ownFlags | flagHas}
	if program == nil || program.Spans >= maxProgramSpans {
		place.TraceID = ids.TraceID()
		return place
	}
	program.Spans++
	place.TraceID, place.ParentID = program.TraceID, program.SpanID
	return place
}
