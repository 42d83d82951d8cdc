// Copyright The otelcol-tapio Authors
// SPDX-License-Identifier: Apache-2.0

package translate // import "github.com/tapio-io/otelcol-tapio/receiver/tapioebpfreceiver/internal/translate"

import (
	"go.opentelemetry.io/collector/pdata/pcommon"

	"github.com/tapio-io/otelcol-tapio/bpf"
	"github.com/tapio-io/otelcol-tapio/receiver/tapioebpfreceiver/internal/event"
	"github.com/tapio-io/otelcol-tapio/receiver/tapioebpfreceiver/internal/identity"
	"github.com/tapio-io/otelcol-tapio/receiver/tapioebpfreceiver/internal/protocol/tls"
)

// tlsSum: as httpSum, of TLS handshakes.
func (t *Translator) tlsSum(record []byte) (outcome, error) {
	e, err := event.DecodeTLSSum(record)
	if err != nil {
		return absorbed, err
	}
	if t.signals.Metrics {
		t.metrics.summedHandshakes(t.resourceOf(&e.Header), e, t.wall(e.Header.Time))
	}
	t.accountSummed(event.FamilyNetwork, e.Events())
	return t.outcomeIf(false), nil
}

func (m *metrics) summedHandshakes(r *identity.Resource, e event.TLSSum, now pcommon.Timestamp) {
	key := handshakeKey{owner: ownerOf(r), role: roleOf(&bpf.WireConnectionEnds{Role: e.Key.Role}), errorType: e.ErrorType()}
	key.protocol, key.version = tls.VersionOf(e.Key.Version)
	m.handshakes.at(key, r, m.since, now).duration.merge(event.DurationBounds, e.Sums.Durations[:], seconds(e.Sums.Duration))
}
