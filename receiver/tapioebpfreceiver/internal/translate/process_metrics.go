// Copyright The otelcol-tapio Authors
// SPDX-License-Identifier: Apache-2.0

package translate // import "github.com/tapio-io/otelcol-tapio/receiver/tapioebpfreceiver/internal/translate"

import (
	"maps"
	"slices"

	"go.opentelemetry.io/collector/pdata/pcommon"

	"github.com/tapio-io/otelcol-tapio/receiver/tapioebpfreceiver/internal/identity"
)

var (
	processExecutions = &instrument{name: "tapio.process.executions", description: "Programs that were started.", unit: "{execution}"}
	processExits      = &instrument{name: "tapio.process.exits", description: "Processes that ended.", unit: "{process}"}
	processActive     = &instrument{name: "tapio.process.active", description: "Processes that run now.", unit: "{process}", gauge: true}
)

type processKey struct {
	owner     owner
	errorType string
}

type processSeries struct {
	executions, exits uint64
}

func (m *metrics) processStarted(r *identity.Resource, now pcommon.Timestamp) {
	if m.wired {
		m.processes.at(processKey{owner: ownerOf(r)}, r, m.since, now).executions++
	}
}

func (m *metrics) processEnded(r *identity.Resource, errorType string, now pcommon.Timestamp) {
	if m.wired {
		m.processes.at(processKey{owner: ownerOf(r), errorType: errorType}, r, m.since, now).exits++
	}
}

func (m *metrics) collectProcesses(c *collection, index *identity.Index) {
	for key, s := range m.processes.series {
		if s.value.executions > 0 {
			describeProcessPoint(c.sum(s.resource, processExecutions, s.start, s.value.executions), key)
		}
		if s.value.exits > 0 {
			describeProcessPoint(c.sum(s.resource, processExits, s.start, s.value.exits), key)
		}
	}
	if m.counting {
		m.collectActive(c, index)
	}
}

// collectActive tells also of executables that nothing runs now, as long as their other series last.
func (m *metrics) collectActive(c *collection, index *identity.Index) {
	counts := map[identity.ResourceKey]*identity.Resource{}
	for key, s := range m.processes.series {
		if key.owner.valid && key.errorType == "" {
			counts[key.owner.key] = s.resource
		}
	}
	index.Resources(func(r *identity.Resource) { counts[r.Key] = r })
	more := 0
	for i, key := range slices.SortedFunc(maps.Keys(counts), identity.ResourceKey.Compare) { // the same ones each time
		if r := counts[key]; i < m.processes.limit {
			c.sum(r, processActive, m.start, uint64(r.Alive()))
		} else {
			more += r.Alive()
		}
	}
	if len(counts) > m.processes.limit {
		markOverflow(c.sum(noResource, processActive, m.start, uint64(more)))
	}
}

func describeProcessPoint(attributes pcommon.Map, key processKey) {
	if !key.owner.valid {
		markOverflow(attributes)
		return
	}
	if key.errorType != "" {
		attributes.PutStr(attrErrorType, key.errorType)
	}
}
