// Copyright The otelcol-tapio Authors
// SPDX-License-Identifier: Apache-2.0

package translate

import (
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"go.opentelemetry.io/collector/pdata/plog"

	"github.com/tapio-io/otelcol-tapio/bpf"
	"github.com/tapio-io/otelcol-tapio/receiver/tapioebpfreceiver/internal/event"
	"github.com/tapio-io/otelcol-tapio/receiver/tapioebpfreceiver/internal/event/eventtest"
)

var etcdTestOptions = EtcdOptions{
	Enabled: true, Executables: []string{"etcd"}, Slow: 100 * time.Millisecond,
	ClientPorts: []uint16{2379}, PeerPorts: []uint16{2380},
}

func newEtcdWorld(signals Signals, limit int) *world {
	w := newWorld(signals, limit)
	w.etcd = newEtcd(etcdTestOptions)
	return w
}

// etcdStarted is process 10 that runs etcd.
func etcdStarted() []byte {
	return execRecord(10, second, 2*second, 0, "/usr/bin/etcd", "/", "etcd")
}

const millisecond = second / 1000

func etcdCallRecord(operation event.EtcdOperation, directory, name string, at, took, bytes uint64, errno int32) []byte {
	e := bpf.WireEtcdCall{
		Header: headerOf(event.TypeEtcdCall, 10, second, at), Began: at - took, Bytes: bytes, Inode: 77, Device: 8 << 20, Thread: 11,
		Error: errno, Operation: uint16(operation),
	}
	copy(e.Name[:], name)
	copy(e.Directory[:], directory)
	return eventtest.Record(e)
}

const walName = "0000000000000000-0000000000000000.wal"

func TestEtcdCalls(t *testing.T) {
	w := newEtcdWorld(allSignals, 100)
	w.handle(etcdStarted(),
		etcdCallRecord(event.EtcdFdatasync, "wal", walName, 10*second, 3*millisecond, 0, 0),
		etcdCallRecord(event.EtcdFdatasync, "wal", walName, 11*second, 150*millisecond, 0, 0),
		etcdCallRecord(event.EtcdFdatasync, "snap", "db", 12*second, 20*second/10, 0, 5),
		etcdCallRecord(event.EtcdWrite, "wal", walName, 13*second, millisecond, 1000, 0),
		etcdCallRecord(event.EtcdWrite, "wal", walName, 14*second, 2*millisecond, 500, 0),
		etcdCallRecord(event.EtcdPwrite, "snap", "db", 15*second, 100*millisecond, 4096, 0),
		etcdCallRecord(event.EtcdWrite, "", "\xff", 16*second, millisecond, 0, 28),
	)
	w.requireClosed(t)
	out := w.take(t)
	var logs []gotLog
	for _, log := range out.logs {
		if log.Name != "tapio.process.exec" {
			logs = append(logs, log)
		}
	}
	require.Len(t, logs, 4)
	assert.EqualValues(t, 4, out.counts[event.FamilyEtcd])
	assert.EqualValues(t, 3, w.ended(t).Aggregated)
	who := attributes{"process.pid": int64(10), "process.executable.name": "etcd", "file.inode": "77"}
	for i, want := range []struct {
		name       string
		severity   plog.SeverityNumber
		attributes attributes
	}{
		{"tapio.etcd.slow_sync", plog.SeverityNumberWarn, attributes{
			"tapio.etcd.file.type": "wal", "tapio.etcd.call": "fdatasync", "tapio.etcd.duration": 0.15, "file.name": walName, "tapio.etcd.file.directory": "wal",
		}},
		{"tapio.etcd.failed_sync", plog.SeverityNumberError, attributes{
			"tapio.etcd.file.type": "backend", "tapio.etcd.call": "fdatasync", "tapio.etcd.duration": 2.0, "file.name": "db", "tapio.etcd.file.directory": "snap", "error.type": "EIO",
		}},
		{"tapio.etcd.slow_write", plog.SeverityNumberWarn, attributes{
			"tapio.etcd.file.type": "backend", "tapio.etcd.call": "pwrite", "tapio.etcd.duration": 0.1, "file.name": "db", "tapio.etcd.file.directory": "snap", "tapio.etcd.write.size": int64(4096),
		}},
		{"tapio.etcd.failed_write", plog.SeverityNumberError, attributes{
			"tapio.etcd.file.type": "other", "tapio.etcd.call": "write", "tapio.etcd.duration": 0.001, "file.name": "\uFFFD", "error.type": "ENOSPC",
		}},
	} {
		for key, value := range who {
			want.attributes[key] = value
		}
		assert.Equal(t, want.name, logs[i].Name)
		assert.Equal(t, want.severity, logs[i].Severity)
		assert.Equal(t, want.attributes, attributes(logs[i].Attributes))
		assert.True(t, logs[i].InTrace)
		assert.Equal(t, "/usr/bin/etcd", logs[i].Resource["process.executable.path"])
	}
	got := w.collect(t, 20*second)
	assert.Equal(t, diskBounds, got.metrics["tapio.etcd.sync.duration"].Histogram().DataPoints().At(0).ExplicitBounds().AsRaw())
	assert.Equal(t, "s", got.metrics["tapio.etcd.sync.duration"].Unit())
	for key, want := range map[string]point{
		`tapio.etcd.sync.duration {"tapio.etcd.call":"fdatasync","tapio.etcd.file.type":"wal"}`:                        {count: 2, sum: 0.153, buckets: map[float64]uint64{0.004: 1, 0.256: 1}},
		`tapio.etcd.sync.duration {"error.type":"EIO","tapio.etcd.call":"fdatasync","tapio.etcd.file.type":"backend"}`: {count: 1, sum: 2, buckets: map[float64]uint64{2.048: 1}},
		`tapio.etcd.write.duration {"tapio.etcd.call":"write","tapio.etcd.file.type":"wal"}`:                           {count: 2, sum: 0.003, buckets: map[float64]uint64{0.001: 1, 0.002: 1}},
		`tapio.etcd.write.io {"tapio.etcd.call":"write","tapio.etcd.file.type":"wal"}`:                                 {value: 1500},
		`tapio.etcd.write.io {"tapio.etcd.call":"pwrite","tapio.etcd.file.type":"backend"}`:                            {value: 4096},
		`tapio.etcd.write.io {"error.type":"ENOSPC","tapio.etcd.call":"write","tapio.etcd.file.type":"other"}`:         {},
		`tapio.etcd.write.duration {"error.type":"ENOSPC","tapio.etcd.call":"write","tapio.etcd.file.type":"other"}`:   {count: 1, sum: 0.001, buckets: map[float64]uint64{0.001: 1}},
	} {
		assert.Equal(t, want, got.points["/usr/bin/etcd "+key], key)
	}
}

// Where nobody takes logs, all are in metrics; where nobody takes metrics either, they are left out.
func TestEtcdCallsBySignal(t *testing.T) {
	for _, test := range []struct {
		signals                       Signals
		carried, aggregated, filtered uint64
	}{
		{Signals{Metrics: true}, 0, 2, 0},
		{Signals{Logs: true}, 1, 0, 1},
		{Signals{Traces: true}, 0, 0, 2},
		{Signals{Metrics: true, Logs: true}, 1, 1, 0},
	} {
		w := newEtcdWorld(test.signals, 100)
		w.handle(etcdCallRecord(event.EtcdFsync, "wal", walName, 10*second, millisecond, 0, 0),
			etcdCallRecord(event.EtcdFsync, "wal", walName, 11*second, second, 0, 0))
		w.requireClosed(t)
		assert.Equal(t, test.carried, w.take(t).counts[event.FamilyEtcd])
		assert.Equal(t, test.aggregated, w.ended(t).Aggregated)
		assert.Equal(t, test.filtered, w.ended(t).Filtered)
	}
}

func TestEtcdThresholdOfNothing(t *testing.T) {
	w := newEtcdWorld(allSignals, 100)
	w.etcd.options.Slow = 0
	w.handle(etcdCallRecord(event.EtcdFsync, "wal", walName, 10*second, 0, 0, 0))
	assert.Len(t, w.take(t).logs, 1)
}

func etcdEnds(role uint8, local, peer uint16) func(*bpf.WireConnectionStats) {
	return func(e *bpf.WireConnectionStats) {
		e.Ends.Role, e.Ends.LocalPort, e.Ends.PeerPort = role, local, peer
		e.Flags |= event.ConnectionFirstRecord
	}
}

func TestEtcdConnections(t *testing.T) {
	for name, test := range map[string]struct {
		role        uint8
		local, peer uint16
		want        any
	}{
		"a client's":                          {event.RoleServer, 2379, 50000, "client"},
		"another member's":                    {event.RoleServer, 2380, 50000, "peer"},
		"to another member":                   {event.RoleClient, 50000, 2380, "peer"},
		"its own client":                      {event.RoleClient, 50000, 2379, "client"},
		"older, of a client":                  {event.RoleUnknown, 2379, 50000, "client"},
		"older, to another member":            {event.RoleUnknown, 50000, 2380, "peer"},
		"to somebody, by a port like its own": {event.RoleClient, 2379, 443, nil},
		"of metrics":                          {event.RoleServer, 2381, 50000, nil},
	} {
		w := newEtcdWorld(allSignals, 100)
		w.handle(etcdStarted(), statsRecord(event.TypeConnectionClose, 10*second, etcdEnds(test.role, test.local, test.peer)))
		logs := w.take(t).logs
		assert.Equal(t, test.want, logs[len(logs)-1].Attributes["tapio.etcd.connection.type"], name)
		_, isCounted := w.collect(t, 20*second).metrics["tapio.etcd.io"]
		assert.Equal(t, test.want != nil, isCounted, name)
	}
}

func TestEtcdConnectionMetrics(t *testing.T) {
	w := newEtcdWorld(allSignals, 100)
	reset := func(e *bpf.WireConnectionStats) {
		etcdEnds(event.RoleServer, 2379, 50001)(e)
		e.Error = 104
	}
	again := func(e *bpf.WireConnectionStats) {
		etcdEnds(event.RoleServer, 2379, 50000)(e)
		e.Flags = 0
	}
	refused := bpf.WireConnectionConnect{Header: headerOf(event.TypeConnectionConnect, 10, second, 9*second), Ends: tcpEnds(event.RoleClient), Opened: 8 * second, Error: 111}
	refused.Ends.PeerPort = 2380
	joined := refused
	joined.Error = 0
	w.handle(etcdStarted(), eventtest.Record(refused), eventtest.Record(joined),
		statsRecord(event.TypeConnectionReport, 10*second, etcdEnds(event.RoleServer, 2379, 50000)),
		statsRecord(event.TypeConnectionClose, 11*second, again),
		statsRecord(event.TypeConnectionClose, 12*second, reset),
	)
	w.Flush()
	w.requireClosed(t)
	got := w.collect(t, 20*second)
	for key, want := range map[string]int64{
		`tapio.etcd.io {"network.io.direction":"transmit","tapio.etcd.connection.type":"client","tapio.network.role":"server"}`:              30,
		`tapio.etcd.io {"network.io.direction":"receive","tapio.etcd.connection.type":"client","tapio.network.role":"server"}`:               60,
		`tapio.etcd.connections {"tapio.etcd.connection.type":"client","tapio.network.role":"server"}`:                                       2,
		`tapio.etcd.connections {"tapio.etcd.connection.type":"peer","tapio.network.role":"client"}`:                                         1,
		`tapio.etcd.connections {"error.type":"connection_refused","tapio.etcd.connection.type":"peer","tapio.network.role":"client"}`:       1,
		`tapio.etcd.connection.errors {"error.type":"connection_refused","tapio.etcd.connection.type":"peer","tapio.network.role":"client"}`: 1,
		`tapio.etcd.connection.errors {"error.type":"connection_reset","tapio.etcd.connection.type":"client","tapio.network.role":"server"}`: 1,
	} {
		p, ok := got.points["/usr/bin/etcd "+key]
		assert.True(t, ok, key)
		assert.Equal(t, want, p.value, key)
	}
	for _, span := range w.take(t).spans {
		if span.Name == "tcp.connect" {
			assert.Equal(t, "peer", span.Attributes["tapio.etcd.connection.type"])
		}
	}
}

// Others' connections, and all where the family is off, are just connections.
func TestConnectionsThatAreNotEtcds(t *testing.T) {
	off := newWorld(allSignals, 100)
	off.handle(etcdStarted(), statsRecord(event.TypeConnectionClose, 10*second, etcdEnds(event.RoleServer, 2379, 50000)))
	other := newEtcdWorld(allSignals, 100)
	other.handle(curl(2*second), statsRecord(event.TypeConnectionClose, 10*second, etcdEnds(event.RoleServer, 2379, 50000)))
	for _, w := range []*world{off, other} {
		for _, log := range w.take(t).logs {
			assert.NotContains(t, log.Attributes, "tapio.etcd.connection.type")
		}
		assert.NotContains(t, w.collect(t, 20*second).metrics, "tapio.etcd.io")
	}
}

func etcdChangeRecord(kind event.EtcdChangeKind, revision uint64, key string) []byte {
	return eventtest.EtcdChange(bpf.WireEtcdChange{
		Header: bpf.WireEventHeader{Time: 10 * second}, Kind: uint16(kind), Revision: revision, ClusterId: 0xcafe,
	}, key, "10.0.0.1:2379,10.0.0.2:2379")
}

func TestEtcdChanges(t *testing.T) {
	w := newEtcdWorld(allSignals, 100)
	missed := eventtest.EtcdChange(bpf.WireEtcdChange{
		Header: bpf.WireEventHeader{Time: 11 * second}, Kind: uint16(event.EtcdMissed), Revision: 5, LastRevision: 9,
	}, "", "10.0.0.1:2379,10.0.0.2:2379")
	cut := eventtest.EtcdChange(bpf.WireEtcdChange{
		Header: bpf.WireEventHeader{Time: 11 * second}, Kind: uint16(event.EtcdUpdated), Revision: 14, Flags: event.EtcdKeyTruncated,
	}, "/registry/pods/default/cut", "10.0.0.1:2379,10.0.0.2:2379")
	w.handle(
		etcdChangeRecord(event.EtcdCreated, 10, "/registry/pods/default/web-0"),
		etcdChangeRecord(event.EtcdUpdated, 11, "/registry/example.com/widgets/w"),
		etcdChangeRecord(event.EtcdDeleted, 12, "/registry/secrets/default/\xff"),
		missed, cut,
	)
	w.requireClosed(t)
	out := w.take(t)
	require.Len(t, out.logs, 5)
	assert.EqualValues(t, 5, out.counts[event.FamilyEtcd])
	cluster := attributes{
		"tapio.source": "ebpf", "host.name": "node", "service.name": "etcd",
		"tapio.etcd.endpoints": []any{"10.0.0.1:2379", "10.0.0.2:2379"},
	}
	for i, want := range []attributes{
		{"tapio.etcd.change.type": "create", "tapio.etcd.revision": int64(10), "tapio.etcd.cluster.id": "cafe", "tapio.etcd.key": "/registry/pods/default/web-0", "tapio.etcd.object.resource": "pods", "k8s.namespace.name": "default", "tapio.etcd.object.name": "web-0"},
		{"tapio.etcd.change.type": "update", "tapio.etcd.revision": int64(11), "tapio.etcd.cluster.id": "cafe", "tapio.etcd.key": "/registry/example.com/widgets/w", "tapio.etcd.object.group": "example.com", "tapio.etcd.object.resource": "widgets", "tapio.etcd.object.name": "w"},
		{"tapio.etcd.change.type": "delete", "tapio.etcd.revision": int64(12), "tapio.etcd.cluster.id": "cafe", "tapio.etcd.key": "/registry/secrets/default/\uFFFD"},
		{"tapio.etcd.revision.first": int64(5), "tapio.etcd.revision.last": int64(9)},
		{"tapio.etcd.change.type": "update", "tapio.etcd.revision": int64(14), "tapio.etcd.key": "/registry/pods/default/cut", "tapio.etcd.key.truncated": true},
	} {
		assert.Equal(t, want, attributes(out.logs[i].Attributes))
		assert.Equal(t, cluster, attributes(out.logs[i].Resource))
		name, severity := "tapio.etcd.change", plog.SeverityNumberInfo
		if i == 3 {
			name, severity = "tapio.etcd.changes_missed", plog.SeverityNumberWarn
		}
		assert.Equal(t, name, out.logs[i].Name)
		assert.Equal(t, severity, out.logs[i].Severity)
	}
	got := w.collect(t, 20*second)
	for key, want := range map[string]int64{
		`{"tapio.etcd.change.type":"create","tapio.etcd.object.resource":"pods"}`:    1,
		`{"tapio.etcd.change.type":"update","tapio.etcd.object.resource":"widgets"}`: 1,
		`{"tapio.etcd.change.type":"update","tapio.etcd.object.resource":"pods"}`:    1,
		`{"tapio.etcd.change.type":"delete"}`:                                        1,
	} {
		assert.Equal(t, want, got.points["- tapio.etcd.changes "+key].value, key)
	}
}

// TestEtcdSeriesLimit: what is more is in one series for all, of each table.
func TestEtcdSeriesLimit(t *testing.T) {
	w := newEtcdWorld(allSignals, 1)
	w.handle(etcdStarted(),
		etcdCallRecord(event.EtcdFsync, "wal", walName, 10*second, millisecond, 0, 0), etcdCallRecord(event.EtcdFsync, "snap", "db", 10*second, millisecond, 0, 0),
		etcdCallRecord(event.EtcdWrite, "wal", walName, 10*second, millisecond, 1, 0), etcdCallRecord(event.EtcdWrite, "snap", "db", 10*second, millisecond, 2, 0),
		statsRecord(event.TypeConnectionClose, 10*second, etcdEnds(event.RoleServer, 2379, 50000)),
		statsRecord(event.TypeConnectionClose, 10*second, etcdEnds(event.RoleServer, 2380, 50000)),
		etcdChangeRecord(event.EtcdCreated, 10, "/a"), etcdChangeRecord(event.EtcdDeleted, 11, "/a"),
	)
	got := w.collect(t, 20*second)
	assert.EqualValues(t, 1, got.points[`- tapio.etcd.sync.duration {"otel.metric.overflow":true}`].count)
	assert.EqualValues(t, 1, got.points[`- tapio.etcd.write.duration {"otel.metric.overflow":true}`].count)
	assert.EqualValues(t, 2, got.points[`- tapio.etcd.write.io {"otel.metric.overflow":true}`].value)
	assert.EqualValues(t, 1, got.points[`- tapio.etcd.connections {"otel.metric.overflow":true}`].value)
	assert.EqualValues(t, 10, got.points[`- tapio.etcd.io {"network.io.direction":"transmit","otel.metric.overflow":true}`].value)
	assert.EqualValues(t, 1, got.points[`- tapio.etcd.changes {"otel.metric.overflow":true}`].value)
}
