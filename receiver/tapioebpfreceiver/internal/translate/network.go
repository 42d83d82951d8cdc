// Copyright The otelcol-tapio Authors
// SPDX-License-Identifier: Apache-2.0

package translate // import "github.com/tapio-io/otelcol-tapio/receiver/tapioebpfreceiver/internal/translate"

import (
	"cmp"

	"go.opentelemetry.io/collector/pdata/plog"
	"go.opentelemetry.io/collector/pdata/ptrace"

	"github.com/tapio-io/otelcol-tapio/bpf"
	"github.com/tapio-io/otelcol-tapio/receiver/tapioebpfreceiver/internal/correlate"
	"github.com/tapio-io/otelcol-tapio/receiver/tapioebpfreceiver/internal/event"
	"github.com/tapio-io/otelcol-tapio/receiver/tapioebpfreceiver/internal/identity"
)

// connectionConnect: the span of a handshake. One that failed is a log record too, since no close
// will follow.
func (t *Translator) connectionConnect(record []byte) (outcome, error) {
	e, err := event.DecodeConnectionConnect(record)
	if err != nil {
		return absorbed, err
	}
	p := t.index.Find(e.Header.Pid, e.Header.StartTime)
	r := t.index.ResourceOf(&e.Header, p)
	errorType := event.ErrorType(e.Error)
	ofEtcd := t.etcd.connectionOf(r, &e.Ends)
	t.metrics.connected(r, e, errorType, t.wall(e.Header.Time))
	t.metrics.etcdConnected(r, ofEtcd, e, errorType, t.wall(e.Header.Time))
	failed := errorType != ""
	c := connect{WireConnectionConnect: e, process: p, resource: r, errorType: errorType, name: t.nameOf(&e.Header, &e.Ends, &e.Cause, e.Opened), ofEtcd: ofEtcd}
	if !t.signals.Traces {
		if t.signals.Logs && failed {
			c.fillFailure(t, t.builder.record(r), [8]byte{})
		}
		return t.outcomeIf(t.signals.Logs && failed), nil
	}
	if !failed && t.leavesUntold() {
		t.traces.UntoldConnection(t.placing(&c))
		return t.outcomeIf(false), nil
	}
	place, unit := t.placeConnect(&c)
	return t.tellAttempt(&c, place, unit), nil
}

// connect is a handshake, and what is known of it besides.
type connect struct {
	*bpf.WireConnectionConnect
	process   *identity.Process
	resource  *identity.Resource
	errorType string // empty: established
	name      string // of the server; empty: only its address is known
	ofEtcd    string // what it is to etcd; empty: nothing
}

func (t *Translator) placeConnect(c *connect) (correlate.Place, *correlate.Unit) {
	return t.traces.Connection(t.placing(c))
}

// placing is what a connection's place follows from.
func (t *Translator) placing(c *connect) *correlate.Connection {
	t.traces.Local(event.Address(c.Ends.LocalAddress))
	connection := correlate.Connection{
		Cause:   causeOf(&c.Cause),
		Program: programOf(c.process, &c.Cause),
		Process: identity.KeyOf(c.Header.Pid, c.Header.StartTime),
		Thread:  c.Cause.Thread,
		Peer:    t.addresses.of(c.Ends.PeerAddress),
		Opened:  c.Opened,
		Now:     c.Header.Time,
	}
	if c.errorType == "" {
		connection.Link = correlate.LinkOf(c.Sequence, c.Acknowledged)
	}
	return &connection
}

func (c *connect) owner() *identity.Resource { return c.resource }

func (c *connect) failed() bool { return c.errorType != "" }

func (c *connect) fillSpan(t *Translator, span ptrace.Span) {
	fillSpan(span, spanTCPConnect, ptrace.SpanKindClient, t.wall(c.Opened), t.wall(c.Header.Time))
	t.describeConnect(&t.list, c)
	t.list.moveTo(span.Attributes())
	if c.failed() {
		span.Status().SetCode(ptrace.StatusCodeError)
	}
}

func (c *connect) fillFailure(t *Translator, log plog.LogRecord, span [8]byte) {
	fillLog(log, eventConnectionClose, t.wall(c.Header.Time), plog.SeverityNumberWarn)
	log.SetSpanID(span)
	t.describeConnect(&t.list, c)
	t.list.moveTo(log.Attributes())
}

// nameOf the server that a connection was opened to, as the process has looked it up; empty if it has not.
func (t *Translator) nameOf(header *event.Header, ends *bpf.WireConnectionEnds, cause *bpf.WireCause, opened uint64) string {
	if ends.Role != event.RoleClient {
		return ""
	}
	return t.names.Name(askerOf(header, cause), event.Address(ends.PeerAddress), opened)
}

// askerOf what a process sent; the empty cause does not say which thread it was.
func askerOf(header *event.Header, cause *bpf.WireCause) correlate.Asker {
	return correlate.Asker{
		Process: identity.KeyOf(header.Pid, header.StartTime),
		Thread:  cause.Thread, Dedicated: cause.Flags&event.CauseThread != 0,
	}
}

func (t *Translator) describeConnect(attributes *attributeList, c *connect) {
	attributes.EnsureCapacity(ownerAttributes + t.endsAttributes(&c.Ends))
	t.putOwner(attributes, c.Header.Pid, c.process)
	t.putEnds(attributes, &c.Ends, c.name)
	attributes.putKnown(attrEtcdConnectionType, c.ofEtcd)
	if c.errorType != "" {
		attributes.PutStr(attrErrorType, c.errorType)
	}
}

// connectionStats: what a connection carried in all, or so far.
func (t *Translator) connectionStats(kind event.Type, record []byte) (outcome, error) {
	e, err := event.DecodeConnectionStats(record)
	if err != nil {
		return absorbed, err
	}
	p := t.index.Find(e.Header.Pid, e.Header.StartTime)
	r := t.index.ResourceOf(&e.Header, p)
	errorType := endOf(e.Flags, e.Error)
	closed := kind == event.TypeConnectionClose
	if e.Ends.Role == event.RoleServer && e.Ends.Protocol == event.ProtocolTCP {
		noteServer(p)
	}
	ofEtcd := t.etcd.connectionOf(r, &e.Ends)
	t.metrics.carried(r, e, closed, errorType, t.wall(e.Header.Time))
	t.metrics.etcdCarried(r, ofEtcd, e, closed, errorType, t.wall(e.Header.Time))
	// What lasts is told, and what failed.
	told := t.signals.Logs && (!closed || errorType != "" || !t.leavesUntold())
	if told {
		name, severity := eventConnectionReport, plog.SeverityNumberInfo
		if closed {
			name = eventConnectionClose
		}
		if errorType != "" {
			severity = plog.SeverityNumberWarn
		}
		log := t.log(r, name, t.wall(e.Header.Time), severity)
		t.describeStats(&t.list, p, e, errorType)
		t.list.putKnown(attrEtcdConnectionType, ofEtcd)
		t.list.moveTo(log.Attributes())
	}
	return t.outcomeIf(told), nil
}

// endOf is the error that ended a connection; a reset that this side sent is one too.
func endOf(flags uint32, errno int32) string {
	if flags&event.ConnectionAborted != 0 {
		return event.ErrorConnectionReset
	}
	return event.ErrorType(errno)
}

func (t *Translator) describeStats(attributes *attributeList, p *identity.Process, e *bpf.WireConnectionStats, errorType string) {
	attributes.EnsureCapacity(ownerAttributes + t.endsAttributes(&e.Ends) + statsAttributes)
	t.putOwner(attributes, e.Header.Pid, p)
	t.putEnds(attributes, &e.Ends, t.nameOf(&e.Header, &e.Ends, &bpf.WireCause{}, e.Opened))
	attributes.PutInt(attrNetworkSentBytes, int64(e.SentBytes))
	attributes.PutInt(attrNetworkReceivedBytes, int64(e.ReceivedBytes))
	if e.Opened != 0 {
		attributes.PutDouble(attrNetworkDuration, seconds(e.Header.Time-e.Opened))
	}
	if e.Ends.Protocol == event.ProtocolTCP {
		t.putTCP(attributes, e, errorType)
	} else {
		attributes.PutInt(attrNetworkSentPackets, int64(e.SentPackets))
		attributes.PutInt(attrNetworkReceivedPackets, int64(e.ReceivedPackets))
	}
	if errorType != "" {
		attributes.PutStr(attrErrorType, errorType)
	}
}

func (t *Translator) putTCP(attributes *attributeList, e *bpf.WireConnectionStats, errorType string) {
	attributes.PutInt(attrTCPRetransmits, int64(e.Retransmits))
	if e.Flags&event.ConnectionHasRTT != 0 {
		attributes.PutDouble(attrTCPRTT, rttSeconds(e))
	}
	switch {
	case e.Flags&event.ConnectionAborted != 0:
		attributes.PutStr(attrTCPReset, "sent")
	case errorType == event.ErrorConnectionReset:
		attributes.PutStr(attrTCPReset, "received")
	}
}

func rttSeconds(e *bpf.WireConnectionStats) float64 { return float64(e.Rtt) / 1e6 }

// How many attributes there are as a rule: room for more costs memory in every record.
const (
	ownerAttributes = 2
	statsAttributes = 5
)

func (t *Translator) endsAttributes(ends *bpf.WireConnectionEnds) int {
	n := t.peers.attributes(ends.PeerAddress)
	switch ends.Role {
	case event.RoleClient:
		return n + 9
	case event.RoleServer:
		return n + 11
	default:
		return n + 6
	}
}

func (t *Translator) putOwner(attributes *attributeList, pid uint32, p *identity.Process) {
	if pid != 0 {
		attributes.PutInt(attrProcessPID, int64(pid))
	}
	if p != nil && p.Resource.Name != "" {
		attributes.PutStr(attrProcessExecutableName, p.Resource.Name)
	}
}

// putEnds says between whom it is. Who is client and who server is said only where it is known who
// opened the connection. name is the server's; empty: only its address is known.
func (t *Translator) putEnds(attributes *attributeList, ends *bpf.WireConnectionEnds, name string) {
	local, peer := t.addresses.of(ends.LocalAddress), t.addresses.of(ends.PeerAddress)
	localPort, peerPort := int64(ends.LocalPort), int64(ends.PeerPort)
	attributes.PutStr(attrNetworkTransport, transportOf(ends))
	attributes.PutStr(attrNetworkType, typeOf(ends))
	attributes.PutStr(attrNetworkLocalAddress, local)
	if localPort != 0 { // a connect that failed before it was given one
		attributes.PutInt(attrNetworkLocalPort, localPort)
	}
	attributes.PutStr(attrNetworkPeerAddress, peer)
	attributes.PutInt(attrNetworkPeerPort, peerPort)
	t.peers.put(attributes, ends.PeerAddress, ends.PeerPort)
	switch ends.Role {
	case event.RoleClient:
		attributes.PutStr(attrNetworkRole, roleOf(ends))
		attributes.PutStr(attrServerAddress, cmp.Or(name, peer))
		attributes.PutInt(attrServerPort, peerPort)
	case event.RoleServer:
		attributes.PutStr(attrNetworkRole, roleOf(ends))
		attributes.PutStr(attrClientAddress, peer)
		attributes.PutInt(attrClientPort, peerPort)
		attributes.PutStr(attrServerAddress, cmp.Or(name, local))
		attributes.PutInt(attrServerPort, localPort)
	}
}

func transportOf(ends *bpf.WireConnectionEnds) string {
	if ends.Protocol == event.ProtocolUDP {
		return "udp"
	}
	return "tcp"
}

func typeOf(ends *bpf.WireConnectionEnds) string {
	if event.Address(ends.PeerAddress).Is4() {
		return "ipv4"
	}
	return "ipv6"
}

func roleOf(ends *bpf.WireConnectionEnds) string {
	switch ends.Role {
	case event.RoleClient:
		return "client"
	case event.RoleServer:
		return "server"
	default:
		return ""
	}
}
