// Copyright The otelcol-tapio Authors
// SPDX-License-Identifier: Apache-2.0

package tapioebpfreceiver

import (
	"context"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"go.opentelemetry.io/collector/component/componentstatus"
	"go.opentelemetry.io/collector/config/configoptional"
	"go.opentelemetry.io/collector/consumer/consumertest"
	"go.opentelemetry.io/collector/receiver"
	"go.opentelemetry.io/collector/receiver/receivertest"

	"github.com/tapio-io/otelcol-tapio/receiver/tapioebpfreceiver/internal/metadata"
	"github.com/tapio-io/otelcol-tapio/receiver/tapioebpfreceiver/internal/source"
	"github.com/tapio-io/otelcol-tapio/receiver/tapioebpfreceiver/internal/source/etcdwatch"
	"github.com/tapio-io/otelcol-tapio/test/etcdserver"
)

// TestEtcdStatus: an etcd that is away is a status, and another one when it is back; its changes are in the account.
func TestEtcdStatus(t *testing.T) {
	server := etcdserver.Start(t, etcdserver.Options{})
	client := server.NewClient()
	server.Stop()
	cfg := createDefaultConfig().(*Config)
	etcd := defaultEtcd()
	etcd.Watch.Endpoints, etcd.Watch.TLS.Insecure = []string{server.Client}, true
	cfg.Families.Etcd = configoptional.Some(etcd)
	logs, host := &consumertest.LogsSink{}, &statusHost{}
	created, err := NewFactory().CreateLogs(t.Context(), receivertest.NewNopSettings(metadata.Type), cfg, logs)
	require.NoError(t, err)
	r := created.(*tapioReceiver)
	r.openSource = func(cfg *Config, set receiver.Settings) (source.Source, error) {
		options, err := cfg.watchOptions()
		require.NoError(t, err)
		return etcdwatch.New(&fakeSource{}, *options, set.Logger), nil
	}
	require.NoError(t, created.Start(t.Context(), host))
	await := func(status componentstatus.Status) {
		require.Eventually(t, func() bool {
			statuses := host.statuses()
			return len(statuses) > 0 && statuses[len(statuses)-1] == status
		}, time.Minute, time.Millisecond, "%s", status)
	}
	await(componentstatus.StatusRecoverableError)
	assert.Contains(t, r.stats().Etcd.Error, "connection refused")
	assert.True(t, r.stats().Ready)
	server.Run()
	await(componentstatus.StatusOK)
	assert.Empty(t, r.stats().Etcd.Error)
	etcdserver.Put(t, client, "/registry/pods/default/web", "secret")
	require.Eventually(t, func() bool { return logs.LogRecordCount() == 1 }, time.Minute, time.Millisecond)
	require.NoError(t, created.Shutdown(context.Background()))
	rows, err := r.ledger.Rows(r.source.Counters)
	require.NoError(t, err)
	for family, row := range rows {
		if family.String() == "etcd" {
			assert.EqualValues(t, 1, row.Seen)
			assert.EqualValues(t, 1, row.Exported)
		}
	}
	assert.Equal(t, "/registry/pods/default/web", textOf(logs.AllLogs()[0].ResourceLogs().At(0).ScopeLogs().At(0).LogRecords().At(0).Attributes(), "tapio.etcd.key"))
}

// What is played or simulated has nothing to do with the keys of now.
func TestEtcdIsWatchedWithThisKernelOnly(t *testing.T) {
	cfg := createDefaultConfig().(*Config)
	etcd := defaultEtcd()
	etcd.Watch.Endpoints = []string{"127.0.0.1:2379"}
	cfg.Families.Etcd = configoptional.Some(etcd)
	assert.NotNil(t, cfg.watchedEtcd())
	cfg.Source = "replay"
	assert.Nil(t, cfg.watchedEtcd())
}
