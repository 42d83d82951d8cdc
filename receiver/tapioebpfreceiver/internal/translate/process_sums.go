// Copyright The otelcol-tapio Authors
// SPDX-License-Identifier: Apache-2.0

package translate // import "github.com/tapio-io/otelcol-tapio/receiver/tapioebpfreceiver/internal/translate"

import (
	"go.opentelemetry.io/collector/pdata/pcommon"

	"github.com/tapio-io/otelcol-tapio/bpf"
	"github.com/tapio-io/otelcol-tapio/receiver/tapioebpfreceiver/internal/event"
	"github.com/tapio-io/otelcol-tapio/receiver/tapioebpfreceiver/internal/identity"
)

// processSum: as httpSum, of programs that were started and processes that ended. Which ones is not known.
func (t *Translator) processSum(record []byte) (outcome, error) {
	e, err := event.DecodeProcessSum(record)
	if err != nil {
		return absorbed, err
	}
	if t.signals.Metrics {
		t.metrics.summedProcesses(t.index.ResourceOf(&e.Header, nil), e, t.wall(e.Header.Time))
	}
	t.accountSummed(event.FamilyProcess, e.Sums.Events)
	return t.outcomeIf(false), nil
}

func (m *metrics) summedProcesses(r *identity.Resource, e *bpf.WireProcessSum, now pcommon.Timestamp) {
	key := processKey{owner: ownerOf(r)}
	if event.Type(e.Key.Type) == event.TypeProcessExec {
		m.processes.at(key, r, m.since, now).executions += e.Sums.Events
		return
	}
	key.errorType = statusEnding(e.Key.Status).errorType
	m.processes.at(key, r, m.since, now).exits += e.Sums.Events
}
