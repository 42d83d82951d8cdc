// Copyright The otelcol-tapio Authors
// SPDX-License-Identifier: Apache-2.0

package translate // import "github.com/tapio-io/otelcol-tapio/receiver/tapioebpfreceiver/internal/translate"

import (
	"go.opentelemetry.io/collector/pdata/pcommon"

	"github.com/tapio-io/otelcol-tapio/receiver/tapioebpfreceiver/internal/identity"
	"github.com/tapio-io/otelcol-tapio/receiver/tapioebpfreceiver/internal/protocol/cni"
)

var (
	// cniBounds go up to what the kubelet waits for a pod's sandbox at the most, in seconds.
	cniBounds = []float64{0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60, 120, 240}

	operationDuration = &instrument{name: "tapio.cni.operation.duration", description: "Duration of operations of the container network interface, all plugins of a network together.", unit: "s", bounds: cniBounds}
	pluginDuration    = &instrument{name: "tapio.cni.plugin.duration", description: "Duration of the runs of CNI plugins.", unit: "s", bounds: cniBounds}
	pluginFailures    = &instrument{name: "tapio.cni.plugin.failures", description: "Runs of CNI plugins that failed.", unit: "{run}"}
	netnsChanges      = &instrument{name: "tapio.cni.netns.changes", description: "Network namespaces that were created or deleted.", unit: "{namespace}"}
)

// commandOther stands for all commands that are not the specification's, since whoever sets the variable chooses them.
const commandOther = "_OTHER"

type pluginKey struct {
	owner                      owner
	plugin, command, errorType string
}

type pluginSeries struct{ duration histogram }

type networkKey struct {
	owner              owner
	command, errorType string
}

type networkSeries struct{ duration histogram }

type netnsKey struct {
	owner             owner
	change, errorType string
}

type netnsSeries struct{ count uint64 }

func commandOf(e *cni.Environment) string {
	if e.Command != "" && !e.IsKnown() {
		return commandOther
	}
	return e.Command
}

func (m *metrics) ran(r *identity.Resource, run *pluginRun, f *failure, duration float64, now pcommon.Timestamp) {
	if m.wired {
		key := pluginKey{ownerOf(r), run.plugin, commandOf(&run.environment), f.typeOrNone()}
		m.plugins.at(key, r, m.since, now).duration.add(cniBounds, duration)
	}
}

func (m *metrics) networked(op *operation, now pcommon.Timestamp) {
	if m.wired {
		key := networkKey{ownerOf(op.resource), commandOf(&op.environment), op.failure.typeOrNone()}
		m.networks.at(key, op.resource, m.since, now).duration.add(cniBounds, elapsed(op.began, op.ended))
	}
}

func (m *metrics) namespaceChanged(r *identity.Resource, change netnsChange, now pcommon.Timestamp) {
	if m.wired {
		m.netns.at(netnsKey{ownerOf(r), change.name, change.errorType}, r, m.since, now).count++
	}
}

func (m *metrics) collectCNI(c *collection) {
	for key, s := range m.plugins.series {
		describePluginPoint(c.histogram(s.resource, pluginDuration, s.start, &s.value.duration), key)
		if key.errorType != "" {
			describePluginPoint(c.sum(s.resource, pluginFailures, s.start, s.value.duration.count), key)
		}
	}
	for key, s := range m.networks.series {
		attributes := c.histogram(s.resource, operationDuration, s.start, &s.value.duration)
		describeCNIPoint(attributes, key.owner, attrCNICommand, key.command, key.errorType)
	}
	for key, s := range m.netns.series {
		attributes := c.sum(s.resource, netnsChanges, s.start, s.value.count)
		describeCNIPoint(attributes, key.owner, attrCNINetnsChange, key.change, key.errorType)
	}
}

func describePluginPoint(attributes pcommon.Map, key pluginKey) {
	describeCNIPoint(attributes, key.owner, attrCNICommand, key.command, key.errorType)
	if key.owner.valid {
		putKnown(attributes, attrCNIPluginName, key.plugin)
	}
}

func describeCNIPoint(attributes pcommon.Map, of owner, name, value, errorType string) {
	if !of.valid {
		markOverflow(attributes)
		return
	}
	putKnown(attributes, name, value)
	putKnown(attributes, attrErrorType, errorType)
}
