// Copyright The otelcol-tapio Authors
// SPDX-License-Identifier: Apache-2.0

package translate // import "github.com/tapio-io/otelcol-tapio/receiver/tapioebpfreceiver/internal/translate"

import (
	"go.opentelemetry.io/collector/pdata/pcommon"

	"github.com/tapio-io/otelcol-tapio/receiver/tapioebpfreceiver/internal/protocol/tls"
)

var tlsDuration = &instrument{name: "tapio.tls.handshake.duration", description: "Time from the ClientHello to the established or failed TLS session.", unit: "s", bounds: durationBounds}

type handshakeKey struct {
	owner     owner
	role      string
	version   uint16 // 0: the server has not chosen one
	errorType string
}

type handshakeSeries struct{ duration histogram }

func (m *metrics) shookHands(h *handshake, now pcommon.Timestamp) {
	if !m.wired {
		return
	}
	key := handshakeKey{owner: ownerOf(h.resource), role: roleOf(&h.Ends), version: h.server.Version, errorType: h.errorType}
	m.handshakes.at(key, h.resource, m.since, now).duration.add(durationBounds, seconds(h.Header.Time-h.Start))
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
	if name, number := tls.VersionOf(key.version); name != "" {
		attributes.PutStr(attrTLSProtocolName, name)
		attributes.PutStr(attrTLSProtocolVersion, number)
	}
	putKnown(attributes, attrErrorType, key.errorType)
}
