// Copyright The otelcol-tapio Authors
// SPDX-License-Identifier: Apache-2.0

package event_test

import (
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/tapio-io/otelcol-tapio/bpf"
	"github.com/tapio-io/otelcol-tapio/receiver/tapioebpfreceiver/internal/event"
	"github.com/tapio-io/otelcol-tapio/receiver/tapioebpfreceiver/internal/event/eventtest"
)

func etcdCall(change func(*bpf.WireEtcdCall)) []byte {
	e := bpf.WireEtcdCall{Header: bpf.WireEventHeader{Time: 10, Type: uint16(event.TypeEtcdCall)}, Began: 5, Operation: uint16(event.EtcdFsync)}
	change(&e)
	return eventtest.Record(e)
}

func TestEtcdFile(t *testing.T) {
	for _, test := range []struct {
		directory, name string
		want            event.EtcdFile
	}{
		{"wal", "0000000000000000-0000000000000000.wal", event.EtcdFileWAL},
		{"wal", "0.tmp", event.EtcdFileWAL},
		{"wal.tmp", "0.tmp", event.EtcdFileWAL},
		{"fast-disk", "0000000000000001-0000000000000b1c.wal", event.EtcdFileWAL},
		{"snap", "0000000000000002-0000000000000001.snap", event.EtcdFileSnapshot},
		{"snap", "0000000000000002.snap.db", event.EtcdFileSnapshot},
		{"snap", "tmp012345678", event.EtcdFileSnapshot},
		{"snap", "db", event.EtcdFileBackend},
		{"snap", "db.tmp.4711", event.EtcdFileBackend},
		{"log", "etcd.log", event.EtcdFileOther},
		{"log", "tmp1", event.EtcdFileOther},
		{"", "", event.EtcdFileOther},
		{"snap", "\xff", event.EtcdFileOther},
	} {
		call, err := event.DecodeEtcdCall(etcdCall(func(e *bpf.WireEtcdCall) {
			copy(e.Name[:], test.name)
			copy(e.Directory[:], test.directory)
		}))
		require.NoError(t, err)
		assert.Equal(t, test.name, string(call.Name))
		assert.Equal(t, test.directory, string(call.Directory))
		assert.Equal(t, test.want.String(), call.File().String(), "%s/%s", test.directory, test.name)
	}
}

func TestEtcdCallThatIsNone(t *testing.T) {
	for name, record := range map[string][]byte{
		"no operation":    etcdCall(func(e *bpf.WireEtcdCall) { e.Operation = 0 }),
		"other operation": etcdCall(func(e *bpf.WireEtcdCall) { e.Operation = 7 }),
		"before it began": etcdCall(func(e *bpf.WireEtcdCall) { e.Began = 11 }),
		"short":           etcdCall(func(*bpf.WireEtcdCall) {})[:100],
		"long":            eventtest.Record(bpf.WireEtcdCall{Operation: 1}, []byte("more")),
	} {
		_, err := event.DecodeEtcdCall(record)
		assert.ErrorIs(t, err, event.ErrUndecodable, name)
	}
}

func TestEtcdOperations(t *testing.T) {
	for operation, name := range map[event.EtcdOperation]string{
		event.EtcdFsync: "fsync", event.EtcdFdatasync: "fdatasync", event.EtcdWrite: "write", event.EtcdPwrite: "pwrite",
		event.EtcdWritev: "writev", event.EtcdPwritev: "pwritev", 0: "", 100: "",
	} {
		assert.Equal(t, name, operation.String())
		assert.Equal(t, name == "fsync" || name == "fdatasync", operation.IsSync())
	}
}

func TestEtcdChange(t *testing.T) {
	fixed := bpf.WireEtcdChange{Header: bpf.WireEventHeader{Type: uint16(event.TypeEtcdChange)}, Kind: uint16(event.EtcdDeleted), Revision: 7}
	change, err := event.DecodeEtcdChange(eventtest.EtcdChange(fixed, "/a\xff", "h:1,h:2"))
	require.NoError(t, err)
	assert.Equal(t, "/a\xff", string(change.Key))
	assert.Equal(t, "h:1,h:2", string(change.Endpoints))
	assert.EqualValues(t, 7, change.Revision)
	for kind, name := range map[event.EtcdChangeKind]string{
		event.EtcdCreated: "create", event.EtcdUpdated: "update", event.EtcdDeleted: "delete", event.EtcdMissed: "missed", 0: "", 9: "",
	} {
		assert.Equal(t, name, kind.String())
	}
}

func TestEtcdChangeThatIsNone(t *testing.T) {
	good := bpf.WireEtcdChange{Kind: uint16(event.EtcdCreated), KeySize: 2, EndpointsSize: 1}
	noKind := good
	noKind.Kind = 0
	for name, record := range map[string][]byte{
		"short":     eventtest.Record(good)[:20],
		"less tail": eventtest.Record(good, []byte("ab")),
		"more tail": eventtest.Record(good, []byte("abcd")),
		"no kind":   eventtest.Record(noKind, []byte("abc")),
	} {
		_, err := event.DecodeEtcdChange(record)
		assert.ErrorIs(t, err, event.ErrUndecodable, name)
	}
}
