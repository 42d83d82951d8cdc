// Copyright The otelcol-tapio Authors
// SPDX-License-Identifier: Apache-2.0

//go:build linux

package e2e

import (
	"context"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"go.opentelemetry.io/collector/pdata/plog"

	"github.com/tapio-io/otelcol-tapio/internal/porttest"
	"github.com/tapio-io/otelcol-tapio/test/etcdserver"
)

const etcdKey = "receivers::tapioebpf::families::etcd::"

func portOf(t *testing.T, address string) string {
	t.Helper()
	_, port, err := net.SplitHostPort(address)
	require.NoError(t, err)
	return port
}

// etcdPorts tell the collector where a server listens.
func etcdPorts(t *testing.T, server *etcdserver.Server) []string {
	t.Helper()
	return []string{
		etcdKey + "client_ports: [" + portOf(t, server.Client) + "]",
		etcdKey + "peer_ports: [" + portOf(t, server.Peer) + "]",
	}
}

// etcdCounts are what etcd itself has counted.
type etcdCounts struct{ walSyncs, commits, snapshots, sent, received float64 }

func countsOf(server *etcdserver.Server) etcdCounts {
	return etcdCounts{
		walSyncs:  server.Metric("etcd_disk_wal_fsync_duration_seconds_count"),
		commits:   server.Metric("etcd_disk_backend_commit_duration_seconds_count"),
		snapshots: server.Metric("etcd_snap_fsync_duration_seconds_count"),
		sent:      server.Metric("etcd_network_client_grpc_sent_bytes_total"),
		received:  server.Metric("etcd_network_client_grpc_received_bytes_total"),
	}
}

// TestEtcd: an etcd that starts while it is observed, under load. Each sync of its log is counted, by it and by us.
func TestEtcd(t *testing.T) {
	requireBPF(t)
	scope := newCgroup(t)
	// who is to be observed is told before its ports are known: those of this etcd are none of the defaults
	client, peer := porttest.Free(t), porttest.Free(t)
	c := startCollector(t, scope, etcdKey+"slow: 1us",
		fmt.Sprintf("%sclient_ports: [%d]", etcdKey, client), fmt.Sprintf("%speer_ports: [%d]", etcdKey, peer))
	server := etcdserver.Start(t, etcdserver.Options{
		Client: fmt.Sprintf("127.0.0.1:%d", client), Peer: fmt.Sprintf("127.0.0.1:%d", peer),
		Prepare: scope.place, Arguments: []string{"--snapshot-count", "50"},
	})
	const puts, size = 300, 1000
	load := server.NewClient()
	for i := range puts {
		etcdserver.Put(t, load, fmt.Sprintf("/key/%d", i%10), strings.Repeat("v", size))
	}
	require.NoError(t, load.Close())
	var truth etcdCounts
	c.await("all syncs of the log", func(o *output) bool {
		truth = countsOf(server)
		return walSyncs(o) == int64(truth.walSyncs)-directorySyncs
	})
	server.Stop()
	c.await("the connections", func(o *output) bool {
		n := len(etcdServed(o))
		return n > 0 && total(o.points("tapio.etcd.connections"), servedClients...) == int64(n)
	})
	rows := c.stop()
	rows.requireNothingLost(t)
	checkEtcdFiles(t, &c.output, truth, puts*size)
	checkEtcdConnections(t, &c.output, puts*size)
	slow := filter(c.output.logs, func(i item) bool { return strings.HasPrefix(i.name, "tapio.etcd.") })
	assert.EqualValues(t, len(slow), rows["etcd"].Exported)
	assert.Equal(t, rows["etcd"].Seen, rows["etcd"].Exported+rows["etcd"].Aggregated)
}

// directorySyncs are no syncs of the log that etcd counts as such: of the directory, when it is made (Create, wal.go).
const directorySyncs = 1

func walSyncs(o *output) int64 {
	return total(o.points("tapio.etcd.sync.duration"), "tapio.etcd.file.type", "wal", "tapio.etcd.call", "fdatasync")
}

func checkEtcdFiles(t *testing.T, o *output, truth etcdCounts, payload int64) {
	t.Helper()
	syncs, writes, bytes := o.points("tapio.etcd.sync.duration"), o.points("tapio.etcd.write.duration"), o.points("tapio.etcd.write.io")
	assert.GreaterOrEqual(t, truth.walSyncs, 300.0)
	assert.Greater(t, total(syncs, "tapio.etcd.file.type", "backend"), int64(0))
	assert.GreaterOrEqual(t, total(syncs, "tapio.etcd.file.type", "snapshot"), int64(truth.snapshots))
	assert.GreaterOrEqual(t, truth.snapshots, 1.0)
	assert.Greater(t, total(writes, "tapio.etcd.file.type", "wal"), int64(0))
	assert.GreaterOrEqual(t, total(bytes, "tapio.etcd.file.type", "wal"), payload)
	assert.Greater(t, total(bytes, "tapio.etcd.file.type", "backend", "tapio.etcd.call", "pwrite"), int64(0))
	for _, p := range syncs {
		assert.Equal(t, uint64(p.value), p.buckets)
		assert.Positive(t, p.sum)
		assert.True(t, strings.HasSuffix(p.executable, "/etcd"), p.executable)
	}
	for _, log := range named(o.logs, "tapio.etcd.slow_sync") {
		assert.Equal(t, plog.SeverityNumberWarn, log.severity)
		assert.Equal(t, "etcd", log.text("process.executable.name"))
		assert.Contains(t, []string{"wal", "snapshot", "backend"}, log.text("tapio.etcd.file.type"))
		assert.GreaterOrEqual(t, log.attributes["tapio.etcd.duration"], 1e-6)
	}
	assert.NotEmpty(t, named(o.logs, "tapio.etcd.slow_sync"))
	assert.NotEmpty(t, named(o.logs, "tapio.etcd.slow_write"))
}

// servedClients are those that clients have opened; etcd is a client of its own, too.
var servedClients = []any{"tapio.etcd.connection.type", "client", "tapio.network.role", "server"}

func etcdServed(o *output) []item {
	return filter(o.closes(), func(i item) bool {
		return i.text("tapio.etcd.connection.type") == "client" && i.text("tapio.network.role") == "server"
	})
}

func checkEtcdConnections(t *testing.T, o *output, payload int64) {
	t.Helper()
	var received, sent int64
	for _, log := range etcdServed(o) {
		received += log.number("tapio.network.received_bytes")
		sent += log.number("tapio.network.sent_bytes")
	}
	assert.GreaterOrEqual(t, received, payload)
	io := o.points("tapio.etcd.io")
	assert.Equal(t, received, total(io, append([]any{"network.io.direction", "receive"}, servedClients...)...))
	assert.Equal(t, sent, total(io, append([]any{"network.io.direction", "transmit"}, servedClients...)...))
}

// TestEtcdThatRunsAlready, and another program that does the same: only the first one is seen.
func TestEtcdThatRunsAlready(t *testing.T) {
	requireBPF(t)
	scope := newCgroup(t)
	server := etcdserver.Start(t, etcdserver.Options{Prepare: scope.place})
	outside := etcdserver.Start(t, etcdserver.Options{})
	before := countsOf(server)
	c := startCollector(t, scope, etcdPorts(t, server)...)
	for _, s := range []*etcdserver.Server{server, outside} {
		client := s.NewClient()
		for i := range 50 {
			etcdserver.Put(t, client, fmt.Sprint(i), "x")
		}
	}
	c.await("its syncs", func(o *output) bool { return walSyncs(o) >= 50 })
	truth := countsOf(server)
	assert.LessOrEqual(t, float64(walSyncs(&c.output)), truth.walSyncs-before.walSyncs+1)
	c.stopWithoutLossOf("etcd")
}

const etcdSecret = "s3cr3t-that-must-not-leave-etcd"

// TestEtcdWatch: what changes is told, over TLS, and never a value; an etcd that is away is a matter of the status,
// and all else goes on.
func TestEtcdWatch(t *testing.T) {
	requireBPF(t)
	certificates := etcdserver.NewCertificates(t)
	server := etcdserver.Start(t, etcdserver.Options{Certificates: certificates})
	client := server.NewClient()
	etcdserver.Put(t, client, "/registry/secrets/default/old", etcdSecret)
	scope := newCgroup(t)
	recording := filepath.Join(t.TempDir(), "tapio.recording")
	c := startCollector(t, scope, append(etcdWatch(server, certificates.CA, certificates.Client), "receivers::tapioebpf::recording::file: "+recording)...)
	c.awaitEtcd("", true)
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	etcdserver.Put(t, client, "/registry/secrets/default/token", etcdSecret)
	etcdserver.Put(t, client, "/registry/secrets/default/token", etcdSecret+etcdSecret)
	etcdserver.Delete(t, client, "/registry/secrets/default/token")
	etcdserver.Put(t, client, "/elsewhere", etcdSecret)
	response, err := client.Put(ctx, "/registry/example.com/widgets/team/one", etcdSecret)
	require.NoError(t, err)
	c.await("the changes", func(o *output) bool { return len(named(o.logs, "tapio.etcd.change")) == 4 })

	server.Stop()
	c.awaitEtcd("connection refused", false)
	require.NoError(t, runScoped(scope, workloadCommand(t, "openMany", "/dev/null", "1")))
	c.await("what else there is", func(o *output) bool { return len(named(o.logs, "tapio.process.exit")) == 1 })
	server.Run()
	c.awaitEtcd("", true)
	etcdserver.Delete(t, client, "/registry/secrets/default/old")
	c.await("the change after it was away", func(o *output) bool { return len(named(o.logs, "tapio.etcd.change")) == 5 })
	c.stopWithoutLossOf("etcd")
	checkEtcdChanges(t, c, server.Client, response.Header.Revision)
	checkEtcdReplay(t, scope, c, recording)
}

// checkEtcdReplay: changes are in a recording as they are in the output.
func checkEtcdReplay(t *testing.T, scope cgroup, live *collector, recording string) {
	t.Helper()
	recorded, err := os.ReadFile(recording)
	require.NoError(t, err)
	assert.Contains(t, string(recorded), "/registry/secrets/default/token")
	assert.NotContains(t, string(recorded), "s3cr3t")
	played := startCollector(t, scope, "receivers::tapioebpf::source: replay",
		fmt.Sprintf("receivers::tapioebpf::replay: {file: %s, speed: 0}", recording), etcdKey+"enabled: true")
	played.await("the changes", func(o *output) bool { return len(named(o.logs, "tapio.etcd.change")) == 5 })
	played.stop()
	ofEtcd := func(o *output) []string { return said(t, o, named(o.logs, "tapio.etcd.change")) }
	assert.Equal(t, ofEtcd(&live.output), ofEtcd(&played.output))
}

func checkEtcdChanges(t *testing.T, c *collector, endpoint string, last int64) {
	t.Helper()
	changes := named(c.output.logs, "tapio.etcd.change")
	var told []string
	for _, change := range changes {
		told = append(told, strings.Join([]string{change.text("tapio.etcd.change.type"), change.text("tapio.etcd.object.group"), change.text("tapio.etcd.object.resource"), change.text("k8s.namespace.name"), change.text("tapio.etcd.object.name")}, " "))
		assert.Equal(t, []any{endpoint}, change.resource["tapio.etcd.endpoints"])
		assert.Equal(t, "ebpf", change.resource["tapio.source"])
		assert.NotContains(t, change.resource, "process.executable.name")
		assert.WithinDuration(t, time.Now(), change.time.AsTime(), time.Minute)
	}
	assert.Equal(t, []string{
		"create  secrets default token", "update  secrets default token", "delete  secrets default token",
		"create example.com widgets team one", "delete  secrets default old",
	}, told)
	assert.Equal(t, last, changes[3].number("tapio.etcd.revision"))
	assert.EqualValues(t, 5, total(c.output.points("tapio.etcd.changes")))
	written, err := os.ReadFile(c.output.path)
	require.NoError(t, err)
	assert.Contains(t, string(written), "/registry/secrets/default/token")
	assert.NotContains(t, string(written), "s3cr3t")
	assert.NotContains(t, c.stderr.String(), "s3cr3t")
}

// TestEtcdWatchWrongAuthority: a certificate that is not to be trusted is no reason to stop.
func TestEtcdWatchWrongAuthority(t *testing.T) {
	requireBPF(t)
	certificates, others := etcdserver.NewCertificates(t), etcdserver.NewCertificates(t)
	server := etcdserver.Start(t, etcdserver.Options{Certificates: certificates})
	scope := newCgroup(t)
	c := startCollector(t, scope, etcdWatch(server, others.CA, certificates.Client)...)
	c.awaitEtcd("certificate signed by unknown authority", false)
	assert.Equal(t, 1, strings.Count(c.stderr.String(), "etcd cannot be watched"), "told once")
	require.NoError(t, runScoped(scope, workloadCommand(t, "openMany", "/dev/null", "1")))
	c.await("what else there is", func(o *output) bool { return len(named(o.logs, "tapio.process.exit")) == 1 })
	c.stopWithoutLoss()
}

// TestEtcdWatchWithoutFile: a file that is not there is refused at the start.
func TestEtcdWatchWithoutFile(t *testing.T) {
	requireBPF(t)
	c := launch(t, binary(t), nil, newCgroup(t).path, etcdKey+`watch::endpoints: ["127.0.0.1:1"]`, etcdKey+"watch::tls::ca_file: /nonexistent/ca.crt")
	require.Eventually(t, c.hasExited, patience, pollInterval)
	assert.Contains(t, c.stderr.String(), "families::etcd::watch::tls")
	assert.Contains(t, c.stderr.String(), "/nonexistent/ca.crt")
}

func etcdWatch(server *etcdserver.Server, ca string, pair etcdserver.Pair) []string {
	return []string{
		etcdKey + "watch::endpoints: [" + server.Client + "]",
		fmt.Sprintf("%swatch::tls: {ca_file: %s, cert_file: %s, key_file: %s}", etcdKey, ca, pair.Cert, pair.Key),
	}
}

// awaitEtcd waits until etcd is, or is not, watched; why not is in the statistics.
func (c *collector) awaitEtcd(trouble string, isKnown bool) {
	c.t.Helper()
	require.Eventually(c.t, func() bool {
		etcd := c.stats().Etcd
		return etcd != nil && (etcd.Error != "") == (trouble != "") && strings.Contains(etcd.Error, trouble) && (etcd.Revision > 0 || !isKnown)
	}, 2*patience, pollInterval, "etcd: %q", trouble)
}

// stopWithoutLossOf a family: of the others, the collector is not asked here.
func (c *collector) stopWithoutLossOf(family string) {
	c.t.Helper()
	rows := c.stop()
	require.Empty(c.t, rows[family].Lost)
	assert.Positive(c.t, rows[family].Seen)
}
