// Copyright The otelcol-tapio Authors
// SPDX-License-Identifier: Apache-2.0

package translate // import "github.com/tapio-io/otelcol-tapio/receiver/tapioebpfreceiver/internal/translate"

import (
	"go.opentelemetry.io/collector/pdata/pcommon"

	"github.com/tapio-io/otelcol-tapio/receiver/tapioebpfreceiver/internal/identity"
)

var (
	processExecutions = &instrument{name: "tapio.process.executions", description: "Programs that were started.", unit: "{execution}"}
	processExits      = &instrument{name: "tapio.process.exits", description: "Processes that ended.", unit: "{process}"}
	processActive     = &instrument{name: "tapio.process.active", description: "Processes that run now.", unit: "{process}", gauge: true}
)

type processKey struct {
	resource  *identity.Resource
	errorType string
}

type processSeries struct {
	executions, exits uint64
}

func (m *metrics) processStarted(r *identity.Resource, now pcommon.Timestamp) {
	m.processes.at(processKey{resource: r}, m.since, now).executions++
}

func (m *metrics) processEnded(r *identity.Resource, errorType string, now pcommon.Timestamp) {
	m.processes.at(processKey{resource: r, errorType: errorType}, m.since, now).exits++
}

func (m *metrics) collectProcesses(c *collection, index *identity.Index) {
	for key, s := range m.processes.series {
		r := m.owner(key.resource)
		if s.value.executions > 0 {
			describeProcessPoint(c.sum(r, processExecutions, s.start, s.value.executions), key)
		}
		if s.value.exits > 0 {
			describeProcessPoint(c.sum(r, processExits, s.start, s.value.exits), key)
		}
	}
	m.collectActive(c, index)
}

// collectActive tells also of executables that nothing runs now, as long as their other series last.
func (m *metrics) collectActive(c *collection, index *identity.Index) {
	for key := range m.processes.series {
		if key.resource != nil && key.errorType == "" && key.resource.Alive() == 0 {
			c.sum(key.resource, processActive, m.start, 0)
		}
	}
	var points, more int
	index.Resources(func(r *identity.Resource) {
		if points++; points > m.processes.limit {
			more += r.Alive()
			return
		}
		c.sum(r, processActive, m.start, uint64(r.Alive()))
	})
	if more > 0 {
		markOverflow(c.sum(m.overflow, processActive, m.start, uint64(more)))
	}
}

func describeProcessPoint(attributes pcommon.Map, key processKey) {
	if key.resource == nil {
		markOverflow(attributes)
		return
	}
	if key.errorType != "" {
		attributes.PutStr(attrErrorType, key.errorType)
	}
}
