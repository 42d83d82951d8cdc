// Copyright The otelcol-tapio Authors
// SPDX-License-Identifier: Apache-2.0

package translate // import "github.com/tapio-io/otelcol-tapio/receiver/tapioebpfreceiver/internal/translate"

import (
	"cmp"

	"go.opentelemetry.io/collector/pdata/pcommon"

	"github.com/tapio-io/otelcol-tapio/receiver/tapioebpfreceiver/internal/event"
	"github.com/tapio-io/otelcol-tapio/receiver/tapioebpfreceiver/internal/identity"
)

// httpSum: exchanges that were beyond the limit of their cgroup end in metrics, or are lost where there are none.
func (t *Translator) httpSum(record []byte) (outcome, error) {
	e, err := event.DecodeHTTPSum(record)
	if err != nil {
		return absorbed, err
	}
	if t.signals.Metrics {
		r := t.resourceOf(&e.Header)
		t.metrics.summedExchanges(r, e, t.serverOf(r, e), t.wall(e.Header.Time))
	}
	t.accountSummed(event.FamilyHTTP, e.Events())
	return t.outcomeIf(false), nil
}

// serverOf a client's exchanges is as those that were told have named it, if all of them agree. Of those of several servers there
// is none.
func (t *Translator) serverOf(r *identity.Resource, e event.HTTPSum) hostPort {
	if e.IsServer() || e.OfAnyPeer() {
		return hostPort{}
	}
	if named, ok := t.servers.of(r, e.Key.PeerAddress, e.Key.PeerPort); ok {
		return named
	}
	return hostPort{address: t.addresses.of(e.Key.PeerAddress), port: e.Key.PeerPort}
}

// sumKeyOf has what is known of the exchanges: nothing that only their heads say, but for the server.
func sumKeyOf(r *identity.Resource, e event.HTTPSum, server hostPort) httpKey {
	key := httpKey{
		owner: ownerOf(r), method: cmp.Or(e.Method(), otherMethod), status: e.Key.Status,
		errorType: errorOf(e.CutBy(), e.Key.Status, e.IsServer()),
	}
	if e.IsServer() {
		key.scheme = schemeHTTP
	} else {
		key.address, key.port = server.address, server.port
	}
	return key
}

func (m *metrics) summedExchanges(r *identity.Resource, e event.HTTPSum, server hostPort, now pcommon.Timestamp) {
	series := m.exchangesOf(e.IsServer()).at(sumKeyOf(r, e, server), r, m.since, now)
	series.duration.merge(event.DurationBounds, e.Sums.Durations[:], seconds(e.Sums.Duration))
	series.requestBody.merge(event.BodyBounds, e.Sums.RequestSizes[:], float64(e.Sums.RequestBytes))
	series.responseBody.merge(event.BodyBounds, e.Sums.ResponseSizes[:], float64(e.Sums.ResponseBytes))
}

// maxServers that clients' requests were sent to are remembered, by process, until all are forgotten.
const maxServers = 4096

// servers remember what clients call those that they send requests to.
type servers struct {
	named map[serverKey]serverName
	last  serverKey // most often it comes again
	name  serverName
}

// serverKey is who asks whom, serverName what for.
type serverKey struct {
	client identity.ResourceKey
	peer   [16]byte
	port   uint16
}

type serverName struct {
	hostPort
	several bool // names: none of them is that of all
}

func newServers() servers { return servers{named: map[serverKey]serverName{}} }

// note a client's exchange.
func (s *servers) note(x *exchange) {
	key := serverKey{client: x.resource.Key, peer: x.Ends.PeerAddress, port: x.Ends.PeerPort}
	name := serverName{hostPort: hostPort{address: x.address, port: x.port}}
	if key == s.last && name == s.name {
		return
	}
	known, ok := s.named[key]
	name.several = ok && (known.several || known.hostPort != name.hostPort)
	if !ok && len(s.named) >= maxServers {
		clear(s.named)
	}
	s.named[key], s.last, s.name = name, key, name
}

func (s *servers) of(client *identity.Resource, peer [16]byte, port uint16) (named hostPort, ok bool) {
	name, ok := s.named[serverKey{client: client.Key, peer: peer, port: port}]
	return name.hostPort, ok && !name.several
}
