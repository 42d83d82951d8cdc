// Copyright The otelcol-tapio Authors
// SPDX-License-Identifier: Apache-2.0

package translate // import "github.com/tapio-io/otelcol-tapio/receiver/tapioebpfreceiver/internal/translate"

import (
	"strconv"

	"go.opentelemetry.io/collector/pdata/pcommon"
	"go.opentelemetry.io/collector/pdata/plog"

	"github.com/tapio-io/otelcol-tapio/receiver/tapioebpfreceiver/internal/event"
	"github.com/tapio-io/otelcol-tapio/receiver/tapioebpfreceiver/internal/identity"
)

// throttling: that events of a cgroup are not told any more, and that they are again. How many they are is in metrics
// meanwhile.
func (t *Translator) throttling(record []byte) (outcome, error) {
	e, err := event.DecodeThrottling(record)
	if err != nil {
		return absorbed, err
	}
	r := t.index.ResourceOf(&e.Header, nil)
	t.metrics.throttled(r, e, t.wall(e.Header.Time))
	isTold := t.signals.Logs && e.Flags&(event.ThrottlingBegan|event.ThrottlingEnded) != 0
	if isTold {
		t.tellThrottling(r, e)
	}
	return t.outcomeIf(isTold), nil
}

func (t *Translator) tellThrottling(r *identity.Resource, e event.Throttling) {
	if e.Flags&event.ThrottlingBegan != 0 {
		log := t.log(r, eventThrottleStart, t.wall(e.Began), plog.SeverityNumberWarn)
		describeThrottling(&t.list, e)
		t.list.moveTo(log.Attributes())
	}
	if e.Flags&event.ThrottlingEnded != 0 {
		log := t.log(r, eventThrottleStop, t.wall(e.Header.Time), plog.SeverityNumberInfo)
		describeThrottling(&t.list, e)
		t.list.PutInt(attrThrottleCount, int64(e.Total))
		t.list.moveTo(log.Attributes())
	}
}

func describeThrottling(attributes *attributeList, e event.Throttling) {
	attributes.PutStr(attrThrottleFamily, e.Limited().String())
	attributes.putKnown(attrSecurityRuleName, e.SecurityKind().String())
	attributes.PutInt(attrThrottleLimit, int64(e.Limit))
	attributes.PutStr(attrCgroupID, strconv.FormatUint(e.Header.CgroupId, 10))
}

var throttledEvents = &instrument{name: "tapio.throttle.events", description: "Events that were beyond the rate limit of their cgroup, and are not told one by one.", unit: "{event}"}

type throttleKey struct {
	owner  owner
	family event.Family
	kind   event.SecurityKind
}

type throttleSeries struct{ count uint64 }

func (m *metrics) throttled(r *identity.Resource, e event.Throttling, now pcommon.Timestamp) {
	if m.wired {
		m.throttles.at(throttleKey{ownerOf(r), e.Limited(), e.SecurityKind()}, r, m.since, now).count += e.Events
	}
}

func (m *metrics) collectThrottles(c *collection) {
	for key, s := range m.throttles.series {
		attributes := c.sum(s.resource, throttledEvents, s.start, s.value.count)
		if !key.owner.valid {
			markOverflow(attributes)
			continue
		}
		attributes.PutStr(attrThrottleFamily, key.family.String())
		putKnown(attributes, attrSecurityRuleName, key.kind.String())
	}
}
