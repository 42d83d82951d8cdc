// Copyright The otelcol-tapio Authors
// SPDX-License-Identifier: Apache-2.0

package translate // import "github.com/tapio-io/otelcol-tapio/receiver/tapioebpfreceiver/internal/translate"

import (
	"slices"

	"go.opentelemetry.io/collector/pdata/pcommon"

	"github.com/tapio-io/otelcol-tapio/receiver/tapioebpfreceiver/internal/event"
	"github.com/tapio-io/otelcol-tapio/receiver/tapioebpfreceiver/internal/identity"
)

// connectionSum: as httpSum, of connections and flows.
func (t *Translator) connectionSum(record []byte) (outcome, error) {
	e, err := event.DecodeConnectionSum(record)
	if err != nil {
		return absorbed, err
	}
	if t.signals.Metrics {
		t.metrics.summedConnections(t.resourceOf(&e.Header), e, t.wall(e.Header.Time))
	}
	t.accountSummed(event.FamilyNetwork, e.Sums.Events)
	return t.outcomeIf(false), nil
}

func (m *metrics) summedConnections(r *identity.Resource, e event.ConnectionSum, now pcommon.Timestamp) {
	of := e.Ends()
	between := endsOf(&of)
	if e.IsConnect() {
		outcome := m.outcomes.at(outcomeKey{owner: ownerOf(r), ends: between, errorType: event.ErrorType(e.Key.Error)}, r, m.since, now)
		outcome.connections += e.Sums.Events
		outcome.handshake.merge(event.RoundTripBounds, e.Sums.Durations[:], seconds(e.Sums.Duration))
		return
	}
	m.summedTraffic(trafficKey{owner: ownerOf(r), ends: between}, r, e, now)
	if e.Key.Protocol == event.ProtocolTCP {
		m.summedEnds(outcomeKey{owner: ownerOf(r), ends: between}, r, e, now)
	}
}

func (m *metrics) summedTraffic(key trafficKey, r *identity.Resource, e event.ConnectionSum, now pcommon.Timestamp) {
	traffic := m.traffic.at(key, r, m.since, now)
	traffic.sent += e.Sums.SentBytes
	traffic.received += e.Sums.ReceivedBytes
	traffic.retransmits += e.Sums.Retransmits
	traffic.rtt.merge(event.RoundTripBounds, e.Sums.Rtts[:], float64(e.Sums.Rtt)/1e6)
}

// summedEnds: key has no error yet, since that a server's was opened is no failure, however it ended.
func (m *metrics) summedEnds(key outcomeKey, r *identity.Resource, e event.ConnectionSum, now pcommon.Timestamp) {
	if e.Key.Role == event.RoleServer && e.Sums.FirstRecords > 0 {
		m.outcomes.at(key, r, m.since, now).connections += e.Sums.FirstRecords
	}
	if slices.Max(e.Sums.Durations[:]) == 0 {
		return // nobody has seen one of them being opened
	}
	key.errorType = endOf(uint32(e.Key.Flags), e.Key.Error)
	m.outcomes.at(key, r, m.since, now).lifetime.merge(event.LifetimeBounds, e.Sums.Durations[:], seconds(e.Sums.Duration))
}
