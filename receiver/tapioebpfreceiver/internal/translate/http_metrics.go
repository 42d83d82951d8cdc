// Copyright The otelcol-tapio Authors
// SPDX-License-Identifier: Apache-2.0

package translate // import "github.com/tapio-io/otelcol-tapio/receiver/tapioebpfreceiver/internal/translate"

import (
	"go.opentelemetry.io/collector/pdata/pcommon"

	"github.com/tapio-io/otelcol-tapio/receiver/tapioebpfreceiver/internal/event"
)

var (
	httpServer = httpInstruments{
		duration:     &instrument{name: "http.server.request.duration", description: "Duration of HTTP server requests.", unit: "s", bounds: event.DurationBounds},
		requestBody:  &instrument{name: "http.server.request.body.size", description: "Size of HTTP server request bodies.", unit: "By", bounds: event.BodyBounds},
		responseBody: &instrument{name: "http.server.response.body.size", description: "Size of HTTP server response bodies.", unit: "By", bounds: event.BodyBounds},
	}
	httpClient = httpInstruments{
		duration:     &instrument{name: "http.client.request.duration", description: "Duration of HTTP client requests.", unit: "s", bounds: event.DurationBounds},
		requestBody:  &instrument{name: "http.client.request.body.size", description: "Size of HTTP client request bodies.", unit: "By", bounds: event.BodyBounds},
		responseBody: &instrument{name: "http.client.response.body.size", description: "Size of HTTP client response bodies.", unit: "By", bounds: event.BodyBounds},
	}
)

type httpInstruments struct {
	duration, requestBody, responseBody *instrument
}

// httpKey has the attributes that the conventions require or recommend for these metrics. Clients
// and servers have tables of their own, so that each metric has its own overflow.
type httpKey struct {
	owner     owner
	method    string
	scheme    string // of a server's request
	version   string
	route     string
	errorType string
	address   string // of a client's server
	port      uint16
	status    uint16
}

type httpSeries struct {
	duration, requestBody, responseBody histogram
}

func keyOf(x *exchange) httpKey {
	key := httpKey{
		owner: ownerOf(x.resource), method: x.method, version: x.version,
		route: x.route, errorType: x.errorType, status: x.Status,
	}
	if x.IsServer() { // its own address is for its clients to choose, and any scheme: each may send another
		key.scheme = schemeHTTP
		if x.scheme == schemeHTTPS {
			key.scheme = schemeHTTPS
		}
	} else {
		key.address, key.port = x.address, x.port
	}
	return key
}

func (m *metrics) exchanged(x *exchange, now pcommon.Timestamp) {
	if !m.wired {
		return
	}
	series := m.exchangesOf(x.IsServer()).at(keyOf(x), x.resource, m.since, now)
	series.duration.add(event.DurationBounds, seconds(x.End()-x.RequestStart))
	series.requestBody.add(event.BodyBounds, float64(x.RequestBodySize))
	if x.HasResponse() {
		series.responseBody.add(event.BodyBounds, float64(x.ResponseBodySize))
	}
}

func (m *metrics) exchangesOf(servers bool) *table[httpKey, httpSeries] {
	if servers {
		return &m.httpServers
	}
	return &m.httpClients
}

func (m *metrics) collectExchanges(c *collection) {
	collectExchangesOf(c, &m.httpServers, &httpServer)
	collectExchangesOf(c, &m.httpClients, &httpClient)
}

func collectExchangesOf(c *collection, table *table[httpKey, httpSeries], instruments *httpInstruments) {
	for key, s := range table.series {
		describeExchangePoint(c.histogram(s.resource, instruments.duration, s.start, &s.value.duration), key)
		describeExchangePoint(c.histogram(s.resource, instruments.requestBody, s.start, &s.value.requestBody), key)
		if s.value.responseBody.count > 0 {
			describeExchangePoint(c.histogram(s.resource, instruments.responseBody, s.start, &s.value.responseBody), key)
		}
	}
}

func describeExchangePoint(attributes pcommon.Map, key httpKey) {
	if !key.owner.valid {
		markOverflow(attributes)
		return
	}
	attributes.PutStr(attrHTTPRequestMethod, key.method)
	if key.scheme != "" {
		attributes.PutStr(attrURLScheme, key.scheme)
	}
	if key.version != "" {
		attributes.PutStr(attrNetworkProtocolVersion, key.version)
	}
	if key.route != "" {
		attributes.PutStr(attrHTTPRoute, key.route)
	}
	if key.address != "" {
		attributes.PutStr(attrServerAddress, key.address)
	}
	if key.port != 0 {
		attributes.PutInt(attrServerPort, int64(key.port))
	}
	if key.status != 0 {
		attributes.PutInt(attrHTTPResponseStatusCode, int64(key.status))
	}
	if key.errorType != "" {
		attributes.PutStr(attrErrorType, key.errorType)
	}
}
