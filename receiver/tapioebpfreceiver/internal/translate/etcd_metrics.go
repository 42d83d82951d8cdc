// Copyright The otelcol-tapio Authors
// SPDX-License-Identifier: Apache-2.0

package translate // import "github.com/tapio-io/otelcol-tapio/receiver/tapioebpfreceiver/internal/translate"

import (
	"go.opentelemetry.io/collector/pdata/pcommon"

	"github.com/tapio-io/otelcol-tapio/bpf"
	"github.com/tapio-io/otelcol-tapio/receiver/tapioebpfreceiver/internal/event"
	"github.com/tapio-io/otelcol-tapio/receiver/tapioebpfreceiver/internal/identity"
)

var (
	// diskBounds are those of etcd's own etcd_disk_wal_fsync_duration_seconds, 0.001 s and 13 times the double of
	// the one before (server/storage/wal/metrics.go), so that both can be compared.
	diskBounds = []float64{0.001, 0.002, 0.004, 0.008, 0.016, 0.032, 0.064, 0.128, 0.256, 0.512, 1.024, 2.048, 4.096, 8.192}

	etcdSync        = &instrument{name: "tapio.etcd.sync.duration", description: "Time that etcd's fsync and fdatasync took.", unit: "s", bounds: diskBounds}
	etcdWrite       = &instrument{name: "tapio.etcd.write.duration", description: "Time that etcd's writes to files took.", unit: "s", bounds: diskBounds}
	etcdWriteIO     = &instrument{name: "tapio.etcd.write.io", description: "What etcd wrote to files.", unit: "By"}
	etcdConnections = &instrument{name: "tapio.etcd.connections", description: "Connections of etcd that were opened, or failed to.", unit: "{connection}"}
	etcdErrors      = &instrument{name: "tapio.etcd.connection.errors", description: "Connections of etcd that failed to open, or that an error ended.", unit: "{connection}"}
	etcdIO          = &instrument{name: "tapio.etcd.io", description: "Payload that etcd sent and received.", unit: "By"}
	etcdChanges     = &instrument{name: "tapio.etcd.changes", description: "Changes of keys that are watched.", unit: "{change}"}
)

type etcdCallKey struct {
	owner     owner
	file      event.EtcdFile
	operation event.EtcdOperation
	errno     int32
}

type etcdCallSeries struct {
	duration histogram
	bytes    uint64
}

func (m *metrics) etcdCalled(r *identity.Resource, e *event.EtcdCall, now pcommon.Timestamp) {
	if !m.wired {
		return
	}
	key := etcdCallKey{ownerOf(r), e.File(), event.EtcdOperation(e.Operation), e.Error}
	calls := &m.etcdWrites
	if key.operation.IsSync() {
		calls = &m.etcdSyncs
	}
	s := calls.at(key, r, m.since, now)
	s.duration.add(diskBounds, seconds(e.Header.Time-e.Began))
	s.bytes += e.Bytes
}

type etcdConnectionKey struct {
	owner owner
	kind  string // tapio.etcd.connection.type
	role  string
}

type etcdConnectionSeries struct {
	connections, sent, received uint64
	failed, broken              map[string]uint64 // by error.type: that did not open, and others that an error ended
}

func (m *metrics) etcdConnection(r *identity.Resource, kind string, ends *bpf.WireConnectionEnds, now pcommon.Timestamp) *etcdConnectionSeries {
	if !m.wired || kind == "" {
		return nil
	}
	return m.etcdConnections.at(etcdConnectionKey{ownerOf(r), kind, roleOf(ends)}, r, m.since, now)
}

// etcdConnected counts the end of a handshake.
func (m *metrics) etcdConnected(r *identity.Resource, kind string, e *bpf.WireConnectionConnect, errorType string, now pcommon.Timestamp) {
	s := m.etcdConnection(r, kind, &e.Ends, now)
	switch {
	case s == nil:
	case errorType == "":
		s.connections++
	default:
		s.failed = countIn(s.failed, errorType)
	}
}

// etcdCarried counts a close or report, as carried does.
func (m *metrics) etcdCarried(r *identity.Resource, kind string, e *bpf.WireConnectionStats, closed bool, errorType string, now pcommon.Timestamp) {
	s := m.etcdConnection(r, kind, &e.Ends, now)
	if s == nil {
		return
	}
	s.sent += e.SentBytesDelta
	s.received += e.ReceivedBytesDelta
	if e.Ends.Role == event.RoleServer && e.Flags&event.ConnectionFirstRecord != 0 {
		s.connections++
	}
	if closed && errorType != "" {
		s.broken = countIn(s.broken, errorType)
	}
}

func countIn(counts map[string]uint64, name string) map[string]uint64 {
	if counts == nil {
		counts = map[string]uint64{}
	}
	counts[name]++
	return counts
}

type etcdChangeKey struct {
	owner    owner
	kind     event.EtcdChangeKind
	resource string // of Kubernetes; empty: the key is no object's
}

type etcdChangeSeries struct{ count uint64 }

// etcdChanged counts a change; how many were missed nobody knows.
func (m *metrics) etcdChanged(r *identity.Resource, kind event.EtcdChangeKind, resource string, now pcommon.Timestamp) {
	if m.wired && kind != event.EtcdMissed {
		m.etcdChanges.at(etcdChangeKey{ownerOf(r), kind, resource}, r, m.since, now).count++
	}
}

func (m *metrics) collectEtcd(c *collection) {
	for key, s := range m.etcdSyncs.series {
		describeEtcdCallPoint(c.histogram(s.resource, etcdSync, s.start, &s.value.duration), key)
	}
	for key, s := range m.etcdWrites.series {
		describeEtcdCallPoint(c.histogram(s.resource, etcdWrite, s.start, &s.value.duration), key)
		describeEtcdCallPoint(c.sum(s.resource, etcdWriteIO, s.start, s.value.bytes), key)
	}
	for key, s := range m.etcdConnections.series {
		collectEtcdConnections(c, key, s)
	}
	for key, s := range m.etcdChanges.series {
		describeEtcdChangePoint(c.sum(s.resource, etcdChanges, s.start, s.value.count), key)
	}
}

func describeEtcdCallPoint(attributes pcommon.Map, key etcdCallKey) {
	if !key.owner.valid {
		markOverflow(attributes)
		return
	}
	attributes.PutStr(attrEtcdFileType, key.file.String())
	attributes.PutStr(attrEtcdCall, key.operation.String())
	putKnown(attributes, attrErrorType, event.ErrnoName(key.errno))
}

func collectEtcdConnections(c *collection, key etcdConnectionKey, s *series[etcdConnectionSeries]) {
	sum := func(i *instrument, value uint64) pcommon.Map {
		attributes := c.sum(s.resource, i, s.start, value)
		describeEtcdConnectionPoint(attributes, key)
		return attributes
	}
	sum(etcdIO, s.value.sent).PutStr(attrNetworkIODirection, "transmit")
	sum(etcdIO, s.value.received).PutStr(attrNetworkIODirection, "receive")
	if s.value.connections > 0 {
		sum(etcdConnections, s.value.connections)
	}
	for errorType, n := range s.value.failed {
		sum(etcdConnections, n).PutStr(attrErrorType, errorType)
		sum(etcdErrors, n+s.value.broken[errorType]).PutStr(attrErrorType, errorType)
	}
	for errorType, n := range s.value.broken {
		if _, told := s.value.failed[errorType]; !told {
			sum(etcdErrors, n).PutStr(attrErrorType, errorType)
		}
	}
}

func describeEtcdConnectionPoint(attributes pcommon.Map, key etcdConnectionKey) {
	if !key.owner.valid {
		markOverflow(attributes)
		return
	}
	attributes.PutStr(attrEtcdConnectionType, key.kind)
	putKnown(attributes, attrNetworkRole, key.role)
}

func describeEtcdChangePoint(attributes pcommon.Map, key etcdChangeKey) {
	if !key.owner.valid {
		markOverflow(attributes)
		return
	}
	attributes.PutStr(attrEtcdChangeType, key.kind.String())
	putKnown(attributes, attrEtcdObjectResource, key.resource)
}
