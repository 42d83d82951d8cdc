// Copyright The otelcol-tapio Authors
// SPDX-License-Identifier: Apache-2.0

package translate // import "github.com/tapio-io/otelcol-tapio/receiver/tapioebpfreceiver/internal/translate"

import (
	"go.opentelemetry.io/collector/pdata/pcommon"

	"github.com/tapio-io/otelcol-tapio/receiver/tapioebpfreceiver/internal/event"
	"github.com/tapio-io/otelcol-tapio/receiver/tapioebpfreceiver/internal/protocol/tls"
)

var tlsDuration = &instrument{name: "tapio.tls.handshake.duration", description: "Time from the ClientHello to the established or failed TLS session.", unit: "s", bounds: event.DurationBounds}

// handshakeKey has what is told of a version, not its number: a peer may choose any of 65536.
type handshakeKey struct {
	owner             owner
	role              string
	protocol, version string // empty: the server has not chosen one that has a name
	errorType         string
}

type handshakeSeries struct{ duration histogram }

func (m *metrics) shookHands(h *handshake, now pcommon.Timestamp) {
	if !m.wired {
		return
	}
	key := handshakeKey{owner: ownerOf(h.resource), role: roleOf(&h.Ends), errorType: h.errorType}
	key.protocol, key.version = tls.VersionOf(h.server.Version)
	m.handshakes.at(key, h.resource, m.since, now).duration.add(event.DurationBounds, seconds(h.Header.Time-h.Start))
}

func (m *metrics) collectHandshakes(c *collection) {
	for key, s := range m.handshakes.series {
		describeHandshakePoint(c.histogram(s.resource, tlsDuration, s.start, &s.value.duration), key)
	}
}

func describeHandshakePoint(attributes pcommon.Map, key handshakeKey) {
	if !key.owner.valid {
		markOverflow(attributes)
		return
	}
	attributes.PutStr(attrNetworkRole, key.role)
	putKnown(attributes, attrTLSProtocolName, key.protocol)
	putKnown(attributes, attrTLSProtocolVersion, key.version)
	putKnown(attributes, attrErrorType, key.errorType)
}
