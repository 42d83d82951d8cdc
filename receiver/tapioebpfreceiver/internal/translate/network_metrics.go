// Copyright The otelcol-tapio Authors
// SPDX-License-Identifier: Apache-2.0

package translate // import "github.com/tapio-io/otelcol-tapio/receiver/tapioebpfreceiver/internal/translate"

import (
	"go.opentelemetry.io/collector/pdata/pcommon"

	"github.com/tapio-io/otelcol-tapio/bpf"
	"github.com/tapio-io/otelcol-tapio/receiver/tapioebpfreceiver/internal/event"
	"github.com/tapio-io/otelcol-tapio/receiver/tapioebpfreceiver/internal/identity"
)

var (
	tcpHandshake   = &instrument{name: "tapio.tcp.handshake.duration", description: "Time from the SYN to the established or failed connection.", unit: "s", bounds: event.RoundTripBounds}
	tcpLifetime    = &instrument{name: "tapio.tcp.connection.duration", description: "Time from a connection's establishment to its end.", unit: "s", bounds: event.LifetimeBounds}
	tcpRTT         = &instrument{name: "tapio.tcp.rtt", description: "Smoothed round-trip time of a connection at its end or report.", unit: "s", bounds: event.RoundTripBounds}
	tcpRetransmits = &instrument{name: "tapio.tcp.retransmits", description: "Segments that were sent again.", unit: "{segment}"}
	tcpConnections = &instrument{name: "tapio.tcp.connections", description: "Connections that were opened, or failed to.", unit: "{connection}"}
	networkIO      = &instrument{name: "tapio.network.io", description: "Payload that was sent and received.", unit: "By"}
)

// ends are what tells one connection's series from another's.
type ends struct {
	transport, kind, role string
}

func endsOf(e *bpf.WireConnectionEnds) ends {
	return ends{transport: transportOf(e), kind: typeOf(e), role: roleOf(e)}
}

func (e ends) describe(attributes pcommon.Map) {
	attributes.PutStr(attrNetworkTransport, e.transport)
	attributes.PutStr(attrNetworkType, e.kind)
	if e.role != "" {
		attributes.PutStr(attrNetworkRole, e.role)
	}
}

type trafficKey struct {
	owner owner
	ends  ends
}

type trafficSeries struct {
	sent, received, retransmits uint64
	rtt                         histogram
}

type outcomeKey struct {
	owner     owner
	ends      ends
	errorType string
}

type outcomeSeries struct {
	connections         uint64
	handshake, lifetime histogram
}

func (m *metrics) connected(r *identity.Resource, e *bpf.WireConnectionConnect, errorType string, now pcommon.Timestamp) {
	if !m.wired {
		return
	}
	series := m.outcomes.at(outcomeKey{owner: ownerOf(r), ends: endsOf(&e.Ends), errorType: errorType}, r, m.since, now)
	series.connections++
	series.handshake.add(event.RoundTripBounds, seconds(e.Header.Time-e.Opened))
}

// carried counts a close or report. A client's connection was counted when it was opened, a
// server's is when it is heard of first, since only then its process is known.
func (m *metrics) carried(r *identity.Resource, e *bpf.WireConnectionStats, closed bool, errorType string, now pcommon.Timestamp) {
	if !m.wired {
		return
	}
	between := endsOf(&e.Ends)
	traffic := m.traffic.at(trafficKey{owner: ownerOf(r), ends: between}, r, m.since, now)
	traffic.sent += e.SentBytesDelta
	traffic.received += e.ReceivedBytesDelta
	if e.Ends.Protocol != event.ProtocolTCP {
		return
	}
	traffic.retransmits += uint64(e.RetransmitsDelta)
	if e.Flags&event.ConnectionHasRTT != 0 {
		traffic.rtt.add(event.RoundTripBounds, rttSeconds(e))
	}
	if e.Ends.Role == event.RoleServer && e.Flags&event.ConnectionFirstRecord != 0 {
		m.outcomes.at(outcomeKey{owner: ownerOf(r), ends: between}, r, m.since, now).connections++
	}
	if closed && e.Opened != 0 {
		outcome := m.outcomes.at(outcomeKey{owner: ownerOf(r), ends: between, errorType: errorType}, r, m.since, now)
		outcome.lifetime.add(event.LifetimeBounds, seconds(e.Header.Time-e.Opened))
	}
}

func (m *metrics) collectConnections(c *collection) {
	for key, s := range m.traffic.series {
		m.collectTraffic(c, key, s)
	}
	for key, s := range m.outcomes.series {
		m.collectOutcomes(c, key, s)
	}
}

func (m *metrics) collectTraffic(c *collection, key trafficKey, s *series[trafficSeries]) {
	r := s.resource
	sent := c.sum(r, networkIO, s.start, s.value.sent)
	sent.PutStr(attrNetworkIODirection, "transmit")
	describeTrafficPoint(sent, key)
	received := c.sum(r, networkIO, s.start, s.value.received)
	received.PutStr(attrNetworkIODirection, "receive")
	describeTrafficPoint(received, key)
	if key.ends.transport == "tcp" || !key.owner.valid {
		describeTrafficPoint(c.sum(r, tcpRetransmits, s.start, s.value.retransmits), key)
	}
	if s.value.rtt.count > 0 {
		describeTrafficPoint(c.histogram(r, tcpRTT, s.start, &s.value.rtt), key)
	}
}

func (m *metrics) collectOutcomes(c *collection, key outcomeKey, s *series[outcomeSeries]) {
	r := s.resource
	if s.value.connections > 0 {
		describeOutcomePoint(c.sum(r, tcpConnections, s.start, s.value.connections), key)
	}
	if s.value.handshake.count > 0 {
		describeOutcomePoint(c.histogram(r, tcpHandshake, s.start, &s.value.handshake), key)
	}
	if s.value.lifetime.count > 0 {
		describeOutcomePoint(c.histogram(r, tcpLifetime, s.start, &s.value.lifetime), key)
	}
}

func describeTrafficPoint(attributes pcommon.Map, key trafficKey) {
	if !key.owner.valid {
		markOverflow(attributes)
		return
	}
	key.ends.describe(attributes)
}

func describeOutcomePoint(attributes pcommon.Map, key outcomeKey) {
	if !key.owner.valid {
		markOverflow(attributes)
		return
	}
	key.ends.describe(attributes)
	if key.errorType != "" {
		attributes.PutStr(attrErrorType, key.errorType)
	}
}
