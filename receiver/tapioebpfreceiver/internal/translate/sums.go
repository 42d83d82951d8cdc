// Copyright The otelcol-tapio Authors
// SPDX-License-Identifier: Apache-2.0

package translate // import "github.com/tapio-io/otelcol-tapio/receiver/tapioebpfreceiver/internal/translate"

import (
	"github.com/tapio-io/otelcol-tapio/receiver/tapioebpfreceiver/internal/event"
	"github.com/tapio-io/otelcol-tapio/receiver/tapioebpfreceiver/internal/identity"
	"github.com/tapio-io/otelcol-tapio/receiver/tapioebpfreceiver/internal/ledger"
)

// resourceOf whose events were summed up.
func (t *Translator) resourceOf(header *event.Header) *identity.Resource {
	return t.index.ResourceOf(header, t.index.Find(header.Pid, header.StartTime))
}

// accountSummed events end where the metrics are.
func (t *Translator) accountSummed(family event.Family, events uint64) {
	if t.signals.Metrics {
		t.ledger.Add(family, ledger.Aggregated, events)
	} else {
		t.ledger.Add(family, ledger.LostThrottled, events)
	}
}
