// Copyright The otelcol-tapio Authors
// SPDX-License-Identifier: Apache-2.0

package translate // import "github.com/tapio-io/otelcol-tapio/receiver/tapioebpfreceiver/internal/translate"

import (
	"go.opentelemetry.io/collector/pdata/pcommon"

	"github.com/tapio-io/otelcol-tapio/receiver/tapioebpfreceiver/internal/event"
	"github.com/tapio-io/otelcol-tapio/receiver/tapioebpfreceiver/internal/identity"
)

var securityEvents = &instrument{name: "tapio.security.events", description: "Actions that matter for security, each repeat counted.", unit: "{event}"}

type actionKey struct {
	owner   owner
	kind    event.SecurityKind
	outcome string
}

type actionSeries struct{ count uint64 }

func (m *metrics) acted(r *identity.Resource, kind event.SecurityKind, outcome string, now pcommon.Timestamp) {
	if m.wired {
		m.actions.at(actionKey{ownerOf(r), kind, outcome}, r, m.since, now).count++
	}
}

func (m *metrics) collectActions(c *collection) {
	for key, s := range m.actions.series {
		describeActionPoint(c.sum(s.resource, securityEvents, s.start, s.value.count), key)
	}
}

func describeActionPoint(attributes pcommon.Map, key actionKey) {
	if !key.owner.valid {
		markOverflow(attributes)
		return
	}
	attributes.PutStr(attrSecurityRuleName, key.kind.String())
	attributes.PutStr(attrSecurityOutcome, key.outcome)
}
