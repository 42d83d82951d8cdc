// Copyright The otelcol-tapio Authors
// SPDX-License-Identifier: Apache-2.0

package translate // import "github.com/tapio-io/otelcol-tapio/receiver/tapioebpfreceiver/internal/translate"

import (
	"strings"

	"go.opentelemetry.io/collector/pdata/pcommon"
	"go.opentelemetry.io/collector/pdata/plog"

	"github.com/tapio-io/otelcol-tapio/receiver/tapioebpfreceiver/internal/event"
)

var securityEvents = &instrument{name: "tapio.security.events", description: "Actions that matter for security, each repeat counted.", unit: "{event}"}

type actionKey struct {
	owner    owner
	kind     event.SecurityKind
	severity plog.SeverityNumber // of the rule, so that an alert need not know the rules
	outcome  string
}

type actionSeries struct{ count uint64 }

func (m *metrics) acted(a *action, now pcommon.Timestamp) {
	if m.wired {
		m.actions.at(actionKey{ownerOf(a.resource), a.kind, a.rule.Severity, a.outcome()}, a.resource, m.since, now).count++
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
	attributes.PutStr(attrSecuritySeverity, strings.ToLower(key.severity.String()))
	attributes.PutStr(attrSecurityOutcome, key.outcome)
}
