// Copyright The otelcol-tapio Authors
// SPDX-License-Identifier: Apache-2.0

package translate // import "github.com/tapio-io/otelcol-tapio/receiver/tapioebpfreceiver/internal/translate"

import (
	"cmp"

	"go.opentelemetry.io/collector/pdata/plog"
	"go.opentelemetry.io/collector/pdata/ptrace"

	"github.com/tapio-io/otelcol-tapio/receiver/tapioebpfreceiver/internal/correlate"
	"github.com/tapio-io/otelcol-tapio/receiver/tapioebpfreceiver/internal/event"
	"github.com/tapio-io/otelcol-tapio/receiver/tapioebpfreceiver/internal/identity"
	"github.com/tapio-io/otelcol-tapio/receiver/tapioebpfreceiver/internal/protocol/tls"
)

// handshake of TLS, and what is known of it besides.
type handshake struct {
	event.TLSHandshake
	process   *identity.Process
	resource  *identity.Resource
	client    tls.ClientHello
	server    tls.ServerHello
	errorType string // empty: established
	name      string // of the server; empty: only its address is known
}

// tlsHandshake: the span of the client's end. One that failed is a log record, too, at both ends.
func (t *Translator) tlsHandshake(record []byte) (outcome, error) {
	e, err := event.DecodeTLSHandshake(record)
	if err != nil {
		return absorbed, err
	}
	p := t.index.Find(e.Header.Pid, e.Header.StartTime)
	h := &handshake{
		TLSHandshake: e, process: p, resource: t.index.ResourceOf(&e.Header, p), errorType: e.ErrorType(),
		client: tls.ReadClientHello(e.ClientHello), server: tls.ReadServerHello(e.ServerHello),
	}
	h.name = cmp.Or(h.client.ServerName, t.nameOf(&e.Header, &e.Ends, &e.Cause, e.Opened))
	t.metrics.shookHands(h, t.wall(e.Header.Time))
	if e.IsServer() {
		noteServer(p)
	}
	if t.signals.Traces && !e.IsServer() {
		place, unit := t.placeHandshake(h)
		return t.tellAttempt(h, place, unit), nil
	}
	logged := t.signals.Logs && h.failed()
	if logged {
		h.fillFailure(t, t.builder.record(h.resource), [8]byte{})
	}
	return t.outcomeIf(logged), nil
}

// placeHandshake beside the opening of its connection, which was for the same.
func (t *Translator) placeHandshake(h *handshake) (correlate.Place, *correlate.Unit) {
	return t.traces.Handshake(&correlate.Connection{
		Link:    correlate.LinkOf(h.Sequence, h.Acknowledged),
		Cause:   causeOf(&h.Cause),
		Program: programOf(h.process, &h.Cause),
		Now:     h.Header.Time,
	})
}

func (h *handshake) owner() *identity.Resource { return h.resource }

func (h *handshake) failed() bool { return h.errorType != "" }

func (h *handshake) fillSpan(t *Translator, span ptrace.Span) {
	fillSpan(span, spanTLSHandshake, ptrace.SpanKindClient, t.wall(h.Start), t.wall(h.Header.Time))
	t.describeHandshake(&t.list, h)
	t.list.moveTo(span.Attributes())
	if h.failed() {
		span.Status().SetCode(ptrace.StatusCodeError)
	}
}

func (h *handshake) fillFailure(t *Translator, log plog.LogRecord, span [8]byte) {
	fillLog(log, eventTLSFailure, t.wall(h.Header.Time), plog.SeverityNumberWarn)
	log.SetSpanID(span)
	t.describeHandshake(&t.list, h)
	t.list.PutDouble(attrTLSDuration, seconds(h.Header.Time-h.Start))
	t.list.moveTo(log.Attributes())
}

// tlsAttributes is how many there are as a rule, beside those of owner and ends.
const tlsAttributes = 7

func (t *Translator) describeHandshake(attributes *attributeList, h *handshake) {
	attributes.EnsureCapacity(ownerAttributes + t.endsAttributes(&h.Ends) + tlsAttributes)
	t.putOwner(attributes, h.Header.Pid, h.process)
	t.putEnds(attributes, &h.Ends, h.name) // as the client names it, at both ends
	attributes.PutBool(attrTLSEstablished, h.IsEstablished())
	putChoice(attributes, &h.server)
	if resumed, known := tls.Resumed(&h.client, &h.server); known {
		attributes.PutBool(attrTLSResumed, resumed)
	}
	if h.Flags&event.TLSRetried != 0 {
		attributes.PutBool(attrTLSRetried, true)
	}
	putAlert(attributes, h)
	attributes.putKnown(attrErrorType, h.errorType)
}

// putChoice of the server.
func putChoice(attributes *attributeList, server *tls.ServerHello) {
	if name, number := tls.VersionOf(server.Version); name != "" {
		attributes.PutStr(attrTLSProtocolName, name)
		attributes.PutStr(attrTLSProtocolVersion, number)
	}
	if server.CipherSuite != 0 {
		attributes.PutStr(attrTLSCipher, tls.SuiteName(server.CipherSuite))
	}
	attributes.putKnown(attrTLSCurve, tls.GroupName(server.Group))
	attributes.putKnown(attrTLSNextProtocol, server.Protocol)
}

func putAlert(attributes *attributeList, h *handshake) {
	attributes.putKnown(attrTLSAlertSender, h.AlertSender())
	if h.HasAlert() {
		attributes.PutInt(attrTLSAlertCode, int64(h.Alert))
	}
}
