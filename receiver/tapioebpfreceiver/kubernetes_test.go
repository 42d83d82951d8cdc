// Copyright The otelcol-tapio Authors
// SPDX-License-Identifier: Apache-2.0

package tapioebpfreceiver

import (
	"context"
	"encoding/pem"
	"errors"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"go.opentelemetry.io/collector/component/componentstatus"
	"go.opentelemetry.io/collector/config/configoptional"
	"go.opentelemetry.io/collector/consumer/consumertest"
	"go.opentelemetry.io/collector/pipeline"
	"go.opentelemetry.io/collector/receiver"
	"go.opentelemetry.io/collector/receiver/receivertest"

	"github.com/tapio-io/otelcol-tapio/receiver/tapioebpfreceiver/internal/metadata"
	"github.com/tapio-io/otelcol-tapio/receiver/tapioebpfreceiver/internal/source"
)

// apiServer answers that there is nothing, or that nothing may be read.
type apiServer struct {
	*httptest.Server
	forbidden atomic.Bool
	agent     atomic.Value
}

func newAPIServer(t *testing.T) *apiServer {
	server := &apiServer{}
	server.Server = httptest.NewTLSServer(server)
	t.Cleanup(server.CloseClientConnections)
	t.Cleanup(server.Close)
	return server
}

func (s *apiServer) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	s.agent.Store(r.UserAgent())
	w.Header().Set("Content-Type", "application/json")
	switch {
	case s.forbidden.Load():
		w.WriteHeader(http.StatusForbidden)
		_, _ = w.Write([]byte(`{"kind": "Status", "apiVersion": "v1", "status": "Failure", "reason": "Forbidden", "message": "not for you", "code": 403}`))
	case r.URL.Query().Get("sendInitialEvents") != "": // as an older server
		w.WriteHeader(http.StatusUnprocessableEntity)
		_, _ = w.Write([]byte(`{"kind": "Status", "apiVersion": "v1", "status": "Failure", "reason": "Invalid", "code": 422}`))
	case r.URL.Query().Get("watch") != "":
		w.WriteHeader(http.StatusOK)
		_ = http.NewResponseController(w).Flush()
		<-r.Context().Done()
	default:
		kind := map[string]string{"/api/v1/pods": "PodList", "/api/v1/services": "ServiceList"}[r.URL.Path]
		_, _ = w.Write([]byte(`{"kind": "` + kind + `", "apiVersion": "v1", "metadata": {"resourceVersion": "1"}, "items": []}`))
	}
}

func (s *apiServer) kubeconfig(t *testing.T) string {
	authority := filepath.Join(t.TempDir(), "ca.crt")
	certificate := pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: s.Certificate().Raw})
	require.NoError(t, os.WriteFile(authority, certificate, 0o600))
	file := filepath.Join(t.TempDir(), "kubeconfig")
	require.NoError(t, os.WriteFile(file, []byte(`apiVersion: v1
kind: Config
clusters: [{name: test, cluster: {server: "`+s.URL+`", certificate-authority: "`+authority+`"}}]
users: [{name: test, user: {token: secret}}]
contexts: [{name: test, context: {cluster: test, user: test}}]
current-context: test
`), 0o600))
	return file
}

func withKubernetes(kubeconfig string) func(*Config) {
	return func(cfg *Config) {
		cfg.Kubernetes = configoptional.Some(KubernetesConfig{AuthType: "kubeConfig", Kubeconfig: kubeconfig, NodeName: "node-1", Services: true})
	}
}

func TestKubernetesIsWatched(t *testing.T) {
	server := newAPIServer(t)
	s := newSetup(t, consumertest.NewNop(), withKubernetes(server.kubeconfig(t)))
	require.Eventually(t, func() bool { return s.receiver.stats().Kubernetes.Synced }, patience, time.Millisecond)
	assert.Equal(t, &KubernetesStats{Synced: true}, s.receiver.stats().Kubernetes)
	assert.Equal(t, []componentstatus.Status{componentstatus.StatusOK}, s.host.statuses())
	build := s.receiver.set.BuildInfo
	assert.Equal(t, build.Command+"/"+build.Version, server.agent.Load())
}

// The pods of a recording are not those of now.
func TestKubernetesIsOfThisKernelOnly(t *testing.T) {
	s := newSetup(t, consumertest.NewNop(), func(cfg *Config) {
		withKubernetes("/nowhere/kubeconfig")(cfg)
		cfg.Source = "replay"
	})
	assert.Nil(t, s.receiver.stats().Kubernetes)
}

// What the API server refuses is a status, and does not keep the receiver from its work.
func TestKubernetesForbidden(t *testing.T) {
	server := newAPIServer(t)
	server.forbidden.Store(true)
	s := newSetup(t, consumertest.NewNop(), withKubernetes(server.kubeconfig(t)))
	require.Eventually(t, func() bool {
		return strings.Contains(s.receiver.stats().Kubernetes.Error, "list pods: not for you: the agent's ClusterRole must allow the verbs list and watch on pods")
	}, patience, time.Millisecond)
	require.Eventually(t, func() bool {
		statuses := s.host.statuses()
		return statuses[len(statuses)-1] == componentstatus.StatusRecoverableError
	}, patience, time.Millisecond)
	assert.True(t, s.receiver.stats().Ready)
	s.source.give(3)
	s.awaitRow(t, func(row LedgerRow) bool { return row.Exported == 3 })

	server.forbidden.Store(false)
	require.Eventually(t, func() bool {
		statuses := s.host.statuses()
		return statuses[len(statuses)-1] == componentstatus.StatusOK
	}, 30*time.Second, time.Millisecond)
	assert.Empty(t, s.receiver.stats().Kubernetes.Error)
}

func TestKubernetesAwayAtStart(t *testing.T) {
	server := newAPIServer(t)
	kubeconfig := server.kubeconfig(t)
	server.Close()
	s := newSetup(t, consumertest.NewNop(), withKubernetes(kubeconfig))
	require.Eventually(t, func() bool { return strings.Contains(s.receiver.stats().Kubernetes.Error, "connection refused") }, patience, time.Millisecond)
	s.source.give(1)
	s.awaitRow(t, func(row LedgerRow) bool { return row.Exported == 1 })
}

// A consumer that takes data again does not make well what Kubernetes has.
func TestStatusOfSeveralTroubles(t *testing.T) {
	var s status
	host := &statusHost{}
	s.add(host)
	s.trouble("kubernetes", assert.AnError)
	s.started()
	s.trouble("logs", assert.AnError)
	s.trouble("logs", nil)
	assert.Equal(t, []componentstatus.Status{componentstatus.StatusRecoverableError}, host.statuses())
	s.trouble("kubernetes", nil)
	assert.Equal(t, []componentstatus.Status{componentstatus.StatusRecoverableError, componentstatus.StatusOK}, host.statuses())
}

// What remains when a trouble is over is told, and so is another reason.
func TestStatusTellsWhatRemains(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var s status
		host := &statusHost{}
		s.add(host)
		refused, untrusted, full := errors.New("refused"), errors.New("untrusted"), errors.New("full")
		s.trouble("etcd", refused)
		s.consumed(pipeline.SignalLogs, full)
		s.trouble("etcd", untrusted)
		s.trouble("etcd", untrusted)
		s.trouble("etcd", nil)
		s.consumed(pipeline.SignalLogs, untrusted) // too soon
		time.Sleep(consumerPause)
		s.consumed(pipeline.SignalLogs, untrusted)
		s.consumed(pipeline.SignalLogs, full) // too soon
		s.consumed(pipeline.SignalLogs, nil)
		var told []error
		for _, event := range host.events {
			told = append(told, event.Err())
		}
		assert.Equal(t, []error{refused, untrusted, full, untrusted, nil}, told)
	})
}

func TestKubernetesCannotBeConfigured(t *testing.T) {
	start := func(t *testing.T, change func(*KubernetesConfig)) error {
		cfg := createDefaultConfig().(*Config)
		kubernetes := KubernetesConfig{AuthType: "serviceAccount", NodeName: "node-1"}
		change(&kubernetes)
		cfg.Kubernetes = configoptional.Some(kubernetes)
		r, err := NewFactory().CreateLogs(t.Context(), receivertest.NewNopSettings(metadata.Type), cfg, consumertest.NewNop())
		require.NoError(t, err)
		fake := &fakeSource{}
		r.(*tapioReceiver).openSource = func(*Config, receiver.Settings) (source.Source, error) { return fake, nil }
		err = r.Start(t.Context(), &statusHost{})
		assert.True(t, fake.closed)
		require.NoError(t, r.Shutdown(context.Background()))
		return err
	}
	t.Run("not in a pod", func(t *testing.T) {
		t.Setenv("KUBERNETES_SERVICE_HOST", "")
		err := start(t, func(*KubernetesConfig) {})
		assert.EqualError(t, err, "kubernetes: auth_type serviceAccount: unable to load in-cluster configuration, KUBERNETES_SERVICE_HOST and KUBERNETES_SERVICE_PORT must be defined: run it in a pod, or set auth_type: kubeConfig and kubeconfig")
	})
	t.Run("no token", func(t *testing.T) {
		t.Setenv("KUBERNETES_SERVICE_HOST", "10.96.0.1")
		t.Setenv("KUBERNETES_SERVICE_PORT", "443")
		err := start(t, func(*KubernetesConfig) {})
		assert.EqualError(t, err, "kubernetes: auth_type serviceAccount: read the pod's token: open /var/run/secrets/kubernetes.io/serviceaccount/token: no such file or directory: its service account must be mounted (automountServiceAccountToken)")
	})
	t.Run("no kubeconfig", func(t *testing.T) {
		err := start(t, func(cfg *KubernetesConfig) { cfg.AuthType, cfg.Kubeconfig = "kubeConfig", "/nowhere/kubeconfig" })
		assert.EqualError(t, err, `kubernetes: auth_type kubeConfig: read kubeconfig "/nowhere/kubeconfig": stat /nowhere/kubeconfig: no such file or directory: name a file that kubectl can use`)
	})
	t.Run("kubeconfig without a server", func(t *testing.T) {
		file := filepath.Join(t.TempDir(), "kubeconfig")
		require.NoError(t, os.WriteFile(file, []byte("kind: Config\n"), 0o600))
		err := start(t, func(cfg *KubernetesConfig) { cfg.AuthType, cfg.Kubeconfig = "kubeConfig", file })
		assert.ErrorContains(t, err, `kubernetes: auth_type kubeConfig: read kubeconfig "`+file+`": `)
	})
}
