// Copyright The otelcol-tapio Authors
// SPDX-License-Identifier: Apache-2.0

package translate // import "github.com/tapio-io/otelcol-tapio/receiver/tapioebpfreceiver/internal/translate"

import (
	"cmp"
	"strconv"

	"go.opentelemetry.io/collector/pdata/pcommon"

	"github.com/tapio-io/otelcol-tapio/receiver/tapioebpfreceiver/internal/event"
	"github.com/tapio-io/otelcol-tapio/receiver/tapioebpfreceiver/internal/identity"
	"github.com/tapio-io/otelcol-tapio/receiver/tapioebpfreceiver/internal/ledger"
)

// httpSum: exchanges that were beyond the limit of their cgroup end in metrics, or are lost where there are none.
func (t *Translator) httpSum(record []byte) (outcome, error) {
	e, err := event.DecodeHTTPSum(record)
	if err != nil {
		return absorbed, err
	}
	t.metrics.summedExchanges(t.index.ResourceOf(&e.Header, nil), e, t.addresses.of(e.Key.PeerAddress), t.wall(e.Header.Time))
	t.accountSummed(event.FamilyHTTP, e.Events())
	return t.outcomeIf(false), nil
}

// accountSummed events end where the metrics are.
func (t *Translator) accountSummed(family event.Family, events uint64) {
	if t.signals.Metrics {
		t.ledger.Add(family, ledger.Aggregated, events)
	} else {
		t.ledger.Add(family, ledger.LostThrottled, events)
	}
}

// sumKeyOf has what is known of the exchanges: nothing that only their heads say.
func sumKeyOf(r *identity.Resource, e event.HTTPSum, peer string) httpKey {
	key := httpKey{
		owner: ownerOf(r), method: cmp.Or(e.Method(), otherMethod), status: e.Key.Status,
		errorType: errorOf(e.CutBy(), e.Key.Status, e.IsServer()),
	}
	if e.IsServer() {
		key.scheme = schemeHTTP
	} else {
		key.address, key.port = peer, e.Key.PeerPort
	}
	return key
}

func (m *metrics) summedExchanges(r *identity.Resource, e event.HTTPSum, peer string, now pcommon.Timestamp) {
	if !m.wired {
		return
	}
	series := m.exchangesOf(e.IsServer()).at(sumKeyOf(r, e, peer), r, m.since, now)
	series.duration.merge(event.DurationBounds, e.Sums.Durations[:], seconds(e.Sums.Duration))
	series.requestBody.merge(event.BodyBounds, e.Sums.RequestSizes[:], float64(e.Sums.RequestBytes))
	series.responseBody.merge(event.BodyBounds, e.Sums.ResponseSizes[:], float64(e.Sums.ResponseBytes))
}

// errorOf an exchange: what cut it off, else a status that is an error on its side.
func errorOf(cut string, status uint16, isServer bool) string {
	if cut != "" {
		return cut
	}
	if status >= 500 || status >= 400 && !isServer {
		return strconv.Itoa(int(status))
	}
	return ""
}
