// Copyright The otelcol-tapio Authors
// SPDX-License-Identifier: Apache-2.0

package translate // import "github.com/tapio-io/otelcol-tapio/receiver/tapioebpfreceiver/internal/translate"

import (
	"go.opentelemetry.io/collector/pdata/pcommon"

	"github.com/tapio-io/otelcol-tapio/receiver/tapioebpfreceiver/internal/event"
	"github.com/tapio-io/otelcol-tapio/receiver/tapioebpfreceiver/internal/identity"
	"github.com/tapio-io/otelcol-tapio/receiver/tapioebpfreceiver/internal/protocol/dns"
)

var (
	dnsLookupDuration = &instrument{name: "dns.lookup.duration", description: "Measures the time taken to perform a DNS lookup.", unit: "s", bounds: event.DurationBounds}
	dnsRetries        = &instrument{name: "tapio.dns.retries", description: "Queries that were sent again before they were answered.", unit: "{query}"}
	dnsUnmatched      = &instrument{name: "tapio.dns.unmatched_answers", description: "Answers to no query: twice, too late, or never asked for.", unit: "{answer}"}
	dnsWasted         = &instrument{name: "tapio.dns.wasted_queries", description: "Queries for names of a search list that led nowhere.", unit: "{query}"}
)

type lookupKey struct {
	owner     owner
	name      string // in lower case, as some resolvers vary it at random
	errorType string
}

type lookupSeries struct{ duration histogram }

type resolverKey struct{ owner owner }

type resolverSeries struct{ retries, unmatched, wasted uint64 }

func (m *metrics) lookedUp(r *identity.Resource, x *dns.Exchange, now pcommon.Timestamp) {
	if !m.wired {
		return
	}
	key := lookupKey{owner: ownerOf(r), name: x.Question.Name.Folded, errorType: x.ErrorType()}
	m.lookups.at(key, r, m.since, now).duration.add(event.DurationBounds, seconds(x.End-min(x.Start, x.End)))
}

func (m *metrics) retried(r *identity.Resource, now pcommon.Timestamp) {
	if m.wired {
		m.resolver(r, now).retries++
	}
}

func (m *metrics) unmatchedAnswer(r *identity.Resource, now pcommon.Timestamp) {
	if m.wired {
		m.resolver(r, now).unmatched++
	}
}

func (m *metrics) searched(r *identity.Resource, wasted int, now pcommon.Timestamp) {
	if m.wired {
		m.resolver(r, now).wasted += uint64(wasted)
	}
}

func (m *metrics) resolver(r *identity.Resource, now pcommon.Timestamp) *resolverSeries {
	return m.resolvers.at(resolverKey{ownerOf(r)}, r, m.since, now)
}

func (m *metrics) collectLookups(c *collection) {
	for key, s := range m.lookups.series {
		describeLookupPoint(c.histogram(s.resource, dnsLookupDuration, s.start, &s.value.duration), key)
	}
	for key, s := range m.resolvers.series {
		collectResolver(c, key, s)
	}
}

func collectResolver(c *collection, key resolverKey, s *series[resolverSeries]) {
	counts := [...]struct {
		of    *instrument
		value uint64
	}{{dnsRetries, s.value.retries}, {dnsUnmatched, s.value.unmatched}, {dnsWasted, s.value.wasted}}
	for _, count := range counts {
		if count.value == 0 {
			continue
		}
		attributes := c.sum(s.resource, count.of, s.start, count.value)
		if !key.owner.valid {
			markOverflow(attributes)
		}
	}
}

func describeLookupPoint(attributes pcommon.Map, key lookupKey) {
	if !key.owner.valid {
		markOverflow(attributes)
		return
	}
	attributes.PutStr(attrDNSQuestionName, key.name)
	if key.errorType != "" {
		attributes.PutStr(attrErrorType, key.errorType)
	}
}
