// Copyright The otelcol-tapio Authors
// SPDX-License-Identifier: Apache-2.0

package etcdwatch

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	clientv3 "go.etcd.io/etcd/client/v3"
	"go.uber.org/goleak"
	"go.uber.org/zap/zaptest"

	"github.com/tapio-io/otelcol-tapio/receiver/tapioebpfreceiver/internal/event"
	"github.com/tapio-io/otelcol-tapio/receiver/tapioebpfreceiver/internal/source"
	"github.com/tapio-io/otelcol-tapio/test/etcdserver"
)

func TestMain(m *testing.M) {
	goleak.VerifyTestMain(m, goleak.IgnoreAnyFunction("net/http.(*persistConn).readLoop"), goleak.IgnoreAnyFunction("net/http.(*persistConn).writeLoop"))
}

const patience = 30 * time.Second

// silent is a source of which nothing comes.
type silent struct{ source.Source }

func (silent) Read(func([]byte)) error        { time.Sleep(time.Millisecond); return nil }
func (silent) Stop(func(record []byte)) error { return nil }
func (silent) Close() error                   { return nil }
func (silent) BootTime() (int64, error)       { return 1000, nil }
func (silent) Counters() (map[uint8]source.Counters, error) {
	return map[uint8]source.Counters{uint8(event.FamilyEtcd): {Seen: 5}}, nil
}

// lab is a watch, and what came of it.
type lab struct {
	t       *testing.T
	source  *Source
	changes []string // "kind key", or "missed"
	records [][]byte

	mu       sync.Mutex
	statuses []error
}

func newLab(t *testing.T, options Options) *lab {
	t.Helper()
	if options.Prefix == "" {
		options.Prefix = "/registry/"
	}
	if options.QueueSize == 0 {
		options.QueueSize = 100
	}
	l := &lab{t: t, source: New(silent{}, options, zaptest.NewLogger(t))}
	_, err := l.source.BootTime()
	require.NoError(t, err)
	l.source.Start(func(err error) {
		l.mu.Lock()
		defer l.mu.Unlock()
		l.statuses = append(l.statuses, err)
	})
	t.Cleanup(func() { require.NoError(t, l.source.Close()) })
	return l
}

func (l *lab) read() {
	l.t.Helper()
	require.NoError(l.t, l.source.Read(func(record []byte) {
		l.records = append(l.records, slices.Clone(record))
		change, err := event.DecodeEtcdChange(record)
		require.NoError(l.t, err)
		kind := event.EtcdChangeKind(change.Kind)
		text := kind.String() + " " + string(change.Key)
		if kind == event.EtcdMissed {
			text = fmt.Sprintf("missed %d to %d", change.Revision, change.LastRevision)
		}
		l.changes = append(l.changes, text)
		assert.Equal(l.t, strings.Join(l.source.watcher.options.Endpoints, ","), string(change.Endpoints))
		assert.NotZero(l.t, change.ClusterId)
		assert.InDelta(l.t, time.Now().UnixNano()-1000, change.Header.Time, float64(time.Minute))
		assert.Zero(l.t, change.Header.Pid)
	}))
}

func (l *lab) await(changes ...string) {
	l.t.Helper()
	for deadline := time.Now().Add(patience); len(l.changes) < len(changes) && time.Now().Before(deadline); {
		l.read()
	}
	require.Equal(l.t, changes, l.changes)
}

// awaitRevision returns when a watch is there, or was.
func (l *lab) awaitWatching() {
	l.t.Helper()
	require.Eventually(l.t, func() bool { s := l.source.Status(); return s.Revision > 0 && s.Err == nil }, patience, time.Millisecond)
}

func (l *lab) awaitTrouble(contains string) {
	l.t.Helper()
	// the collector is told a moment after the status is there
	require.Eventually(l.t, func() bool { return l.source.Status().Err != nil && len(l.told()) > 0 }, patience, time.Millisecond)
	require.ErrorContains(l.t, l.source.Status().Err, contains)
}

// told are the statuses that the collector was told, "" for well.
func (l *lab) told() (texts []string) {
	l.mu.Lock()
	defer l.mu.Unlock()
	for _, err := range l.statuses {
		if err == nil {
			texts = append(texts, "")
		} else {
			texts = append(texts, err.Error())
		}
	}
	return texts
}

const secret = "s3cr3t-value-that-nobody-may-see"

func TestChangesWithoutValues(t *testing.T) {
	certificates := etcdserver.NewCertificates(t)
	server := etcdserver.Start(t, etcdserver.Options{Certificates: certificates})
	client := server.NewClient()
	etcdserver.Put(t, client, "/registry/secrets/default/before", secret)
	l := newLab(t, Options{Endpoints: []string{server.Client}, TLS: etcdserver.ClientConfig(t, certificates.CA, certificates.Client)})
	l.awaitWatching()
	odd, long := "/registry/pods/default/\xff\xfe", "/registry/pods/default/"+strings.Repeat("x", 2*maxKey)
	etcdserver.Put(t, client, "/registry/secrets/default/token", secret)
	etcdserver.Put(t, client, "/elsewhere/token", secret)
	etcdserver.Put(t, client, "/registry/secrets/default/token", secret+secret)
	etcdserver.Put(t, client, odd, secret)
	etcdserver.Put(t, client, long, secret)
	etcdserver.Delete(t, client, "/registry/secrets/default/token")
	etcdserver.Delete(t, client, "/registry/secrets/default/none")
	etcdserver.Delete(t, client, "/registry/secrets/default/before")
	l.await("create /registry/secrets/default/token", "update /registry/secrets/default/token", "create "+odd, "create "+long[:maxKey],
		"delete /registry/secrets/default/token", "delete /registry/secrets/default/before")
	for i, record := range l.records {
		assert.NotContains(t, string(record), "s3cr3t")
		change, err := event.DecodeEtcdChange(record)
		require.NoError(t, err)
		assert.Equal(t, i == 3, change.Flags&event.EtcdKeyTruncated != 0)
		if i > 0 {
			before, err := event.DecodeEtcdChange(l.records[i-1])
			require.NoError(t, err)
			assert.Greater(t, change.Revision, before.Revision)
		}
	}
	assert.Empty(t, l.told())
	counters, err := l.source.Counters()
	require.NoError(t, err)
	assert.Equal(t, source.Counters{Seen: 5 + 6}, counters[uint8(event.FamilyEtcd)])
}

func TestWrongAuthority(t *testing.T) {
	certificates, others := etcdserver.NewCertificates(t), etcdserver.NewCertificates(t)
	server := etcdserver.Start(t, etcdserver.Options{Certificates: certificates})
	l := newLab(t, Options{Endpoints: []string{server.Client}, TLS: etcdserver.ClientConfig(t, others.CA, certificates.Client)})
	l.awaitTrouble("certificate signed by unknown authority")
	require.Len(t, l.told(), 1)
	assert.Zero(t, l.source.Status().Revision)
	l.read()
	assert.Empty(t, l.changes)
}

func TestNotEncrypted(t *testing.T) {
	server := etcdserver.Start(t, etcdserver.Options{Certificates: etcdserver.NewCertificates(t)})
	l := newLab(t, Options{Endpoints: []string{server.Client}})
	l.awaitTrouble("ask etcd")
}

// TestAwayAndBack: nothing is lost while etcd can tell it later, and nothing is told twice.
func TestAwayAndBack(t *testing.T) {
	server := etcdserver.Start(t, etcdserver.Options{})
	client := server.NewClient()
	server.Stop()
	l := newLab(t, Options{Endpoints: []string{server.Client}})
	l.awaitTrouble("connection refused")
	server.Run()
	l.awaitWatching()
	etcdserver.Put(t, client, "/registry/pods/a/1", "x")
	l.await("create /registry/pods/a/1")
	server.Stop()
	l.awaitTrouble("")
	server.Run()
	etcdserver.Put(t, client, "/registry/pods/a/2", "x") // maybe before the watch is back
	l.await("create /registry/pods/a/1", "create /registry/pods/a/2")
	l.awaitWatching()
	require.Eventually(t, func() bool { return len(l.told()) == 4 }, patience, time.Millisecond, "a moment after the status is there")
	told := l.told()
	assert.Equal(t, []string{"", ""}, []string{told[1], told[3]})
}

// TestCompacted: what etcd has forgotten is said to be missed, and the watch goes on.
func TestCompacted(t *testing.T) {
	server := etcdserver.Start(t, etcdserver.Options{})
	client := server.NewClient()
	etcdserver.Put(t, client, "/registry/pods/a/1", "x") // revision 2
	etcdserver.Put(t, client, "/registry/pods/a/1", "y")
	etcdserver.Put(t, client, "/registry/pods/a/2", "z") // 4
	_, err := client.Compact(context.Background(), 4)
	require.NoError(t, err)
	s := New(silent{}, Options{Endpoints: []string{server.Client}, Prefix: "/registry/", QueueSize: 100}, zaptest.NewLogger(t))
	response, err := client.Get(context.Background(), "x")
	require.NoError(t, err)
	s.watcher.cluster = response.Header.ClusterId
	s.watcher.knows(1) // as one that was cut off long ago
	l := &lab{t: t, source: s}
	_, err = s.BootTime()
	require.NoError(t, err)
	s.Start(func(err error) { assert.NoError(t, err) })
	t.Cleanup(func() { require.NoError(t, s.Close()) })
	l.await("missed 2 to 4", "create /registry/pods/a/2")
	etcdserver.Put(t, client, "/registry/pods/a/3", "x")
	l.await("missed 2 to 4", "create /registry/pods/a/2", "create /registry/pods/a/3")
}

// TestAnotherHistory: what was to come of the old one is said to be missed, and the watch begins with the present.
func TestAnotherHistory(t *testing.T) {
	server := etcdserver.Start(t, etcdserver.Options{})
	client := server.NewClient()
	response, err := client.Get(context.Background(), "x")
	require.NoError(t, err)
	missed := fmt.Sprintf("missed 1000001 to %d", response.Header.Revision)
	s := New(silent{}, Options{Endpoints: []string{server.Client}, Prefix: "/registry/", QueueSize: 100}, zaptest.NewLogger(t))
	s.watcher.cluster = 1
	s.watcher.knows(1_000_000)
	l := &lab{t: t, source: s}
	_, err = s.BootTime()
	require.NoError(t, err)
	s.Start(func(error) {})
	t.Cleanup(func() { require.NoError(t, s.Close()) })
	require.Eventually(t, func() bool { return s.Status().Revision < 1000 }, patience, time.Millisecond)
	etcdserver.Put(t, client, "/registry/pods/a/1", "x")
	l.await(missed, "create /registry/pods/a/1")
	change, err := event.DecodeEtcdChange(l.records[0])
	require.NoError(t, err)
	assert.Equal(t, response.Header.ClusterId, change.ClusterId)
}

func TestQueueFull(t *testing.T) {
	server := etcdserver.Start(t, etcdserver.Options{})
	client := server.NewClient()
	l := newLab(t, Options{Endpoints: []string{server.Client}, QueueSize: 3})
	l.awaitWatching()
	for i := range 10 {
		etcdserver.Put(t, client, fmt.Sprintf("/registry/pods/a/%d", i), "x")
	}
	w := l.source.watcher
	require.Eventually(t, func() bool { return w.seen.Load() == 10 && w.queueFull.Load() == 7 }, patience, time.Millisecond)
	l.await("create /registry/pods/a/0", "create /registry/pods/a/1", "create /registry/pods/a/2")
	counters, err := l.source.Counters()
	require.NoError(t, err)
	assert.Equal(t, source.Counters{Seen: 5 + 10, QueueFull: 7}, counters[uint8(event.FamilyEtcd)])
}

// TestUsers: who is not who he says, or may not read the prefix, is told so; who may, watches.
func TestUsers(t *testing.T) {
	server := etcdserver.Start(t, etcdserver.Options{})
	admin := server.NewClient()
	setUp(t, admin)
	wrong := newLab(t, Options{Endpoints: []string{server.Client}, Username: "watcher", Password: "wrong"})
	wrong.awaitTrouble("authentication failed")
	nobody := newLab(t, Options{Endpoints: []string{server.Client}})
	nobody.awaitTrouble("user name is empty")
	forbidden := newLab(t, Options{Endpoints: []string{server.Client}, Prefix: "/other/", Username: "watcher", Password: secret})
	forbidden.awaitTrouble("permission denied")
	right := newLab(t, Options{Endpoints: []string{server.Client}, Username: "watcher", Password: secret})
	right.awaitWatching()
	root, err := clientv3.New(clientv3.Config{Endpoints: []string{server.Client}, Username: "root", Password: "root", DialTimeout: patience})
	require.NoError(t, err)
	defer root.Close()
	etcdserver.Put(t, root, "/registry/pods/a/1", "x")
	right.await("create /registry/pods/a/1")
}

// TestReasons: another reason is told, but not at each attempt.
func TestReasons(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var told []error
		w := newWatcher(Options{}, zaptest.NewLogger(t))
		w.onStatus = func(err error) { told = append(told, err) }
		refused, untrusted := errors.New("refused"), errors.New("untrusted")
		w.report(refused)
		w.report(refused)
		w.report(untrusted)
		assert.Equal(t, []error{refused}, told, "too soon")
		assert.Equal(t, untrusted, w.status().Err)
		time.Sleep(tellEvery)
		w.report(refused)
		w.report(untrusted)
		w.report(refused)
		w.report(untrusted)
		assert.Equal(t, []error{refused, untrusted}, told)
		w.report(nil)
		w.report(nil)
		w.report(untrusted)
		assert.Equal(t, []error{refused, untrusted, nil, untrusted}, told, "it was well in between")
	})
}

// setUp has a user watcher that may read /registry/ and nothing else.
func setUp(t *testing.T, admin *clientv3.Client) {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	for _, step := range []func() error{
		func() error { _, err := admin.UserAdd(ctx, "root", "root"); return err },
		func() error { _, err := admin.RoleAdd(ctx, "root"); return err },
		func() error { _, err := admin.UserGrantRole(ctx, "root", "root"); return err },
		func() error { _, err := admin.UserAdd(ctx, "watcher", secret); return err },
		func() error { _, err := admin.RoleAdd(ctx, "reader"); return err },
		func() error {
			_, err := admin.RoleGrantPermission(ctx, "reader", "/registry/", clientv3.GetPrefixRangeEnd("/registry/"), clientv3.PermissionType(clientv3.PermRead))
			return err
		},
		func() error { _, err := admin.UserGrantRole(ctx, "watcher", "reader"); return err },
		func() error { _, err := admin.AuthEnable(ctx); return err },
	} {
		require.NoError(t, step())
	}
}
