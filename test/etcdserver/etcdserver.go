// Copyright The otelcol-tapio Authors
// SPDX-License-Identifier: Apache-2.0

// Package etcdserver runs a real etcd for tests, on loopback and with its data in a temporary folder.
package etcdserver // import "github.com/tapio-io/otelcol-tapio/test/etcdserver"

import (
	"cmp"
	"context"
	"fmt"
	"io"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	clientv3 "go.etcd.io/etcd/client/v3"
	"go.uber.org/zap"

	"github.com/tapio-io/otelcol-tapio/internal/porttest"
)

// patience is how long an etcd may take to start, on a machine with other work.
const patience = 30 * time.Second

// Options of a Server.
type Options struct {
	// Certificates make it a server that speaks TLS only, and only with clients that they are for; nil: none.
	Certificates *Certificates
	// Prepare, if set, is given the command before it is started.
	Prepare func(*exec.Cmd)
	// Client and Peer are host:port on loopback; empty: free ones.
	Client, Peer string
	// Arguments beside those that every server gets.
	Arguments []string
}

// Server is an etcd of one member.
type Server struct {
	// Client and Metrics are host:port; Peer is its own.
	Client, Peer, Metrics string
	// Dir has its data.
	Dir string

	t       testing.TB
	options Options
	command *exec.Cmd
	log     *os.File
}

// Start skips the test where there is no etcd, unless TAPIO_REQUIRE_BPF says that nothing may be left out.
func Start(t testing.TB, options Options) *Server {
	t.Helper()
	if _, err := exec.LookPath("etcd"); err != nil {
		if os.Getenv("TAPIO_REQUIRE_BPF") == "1" {
			t.Fatalf("TAPIO_REQUIRE_BPF=1: %v: apt-get install etcd-server", err)
		}
		t.Skip(err)
	}
	s := &Server{t: t, options: options, Dir: t.TempDir(), Metrics: porttest.FreeAddress(t)}
	s.Client, s.Peer = cmp.Or(options.Client, porttest.FreeAddress(t)), cmp.Or(options.Peer, porttest.FreeAddress(t))
	t.Cleanup(s.Stop)
	s.Run()
	return s
}

// Run starts it, again if it was stopped, and waits until it is ready.
func (s *Server) Run() {
	s.t.Helper()
	var err error
	s.log, err = os.OpenFile(filepath.Join(s.Dir, "log"), os.O_CREATE|os.O_APPEND|os.O_RDWR, 0o600)
	require.NoError(s.t, err)
	s.command = exec.Command("etcd", append(s.arguments(), s.options.Arguments...)...)
	s.command.Stderr = s.log
	s.command.Stdout = s.log
	if s.options.Prepare != nil {
		s.options.Prepare(s.command)
	}
	require.NoError(s.t, s.command.Start())
	require.Eventually(s.t, s.isHealthy, patience, 20*time.Millisecond, "etcd is not ready, its log is in %s", s.Dir)
}

func (s *Server) arguments() []string {
	scheme := "http"
	var tls []string
	if c := s.options.Certificates; c != nil {
		scheme = "https"
		tls = []string{"--cert-file", c.Server.Cert, "--key-file", c.Server.Key, "--trusted-ca-file", c.CA, "--client-cert-auth"}
	}
	return append([]string{
		"--name", "test", "--data-dir", filepath.Join(s.Dir, "data"), "--logger", "zap",
		"--listen-client-urls", scheme + "://" + s.Client, "--advertise-client-urls", scheme + "://" + s.Client,
		"--listen-peer-urls", "http://" + s.Peer, "--initial-advertise-peer-urls", "http://" + s.Peer, "--initial-cluster", "test=http://" + s.Peer,
		"--listen-metrics-urls", "http://" + s.Metrics,
	}, tls...)
}

func (s *Server) isHealthy() bool {
	response, err := http.Get("http://" + s.Metrics + "/health")
	if err != nil {
		return false
	}
	defer response.Body.Close()
	return response.StatusCode == http.StatusOK
}

// Stop ends it, as a machine does that goes down.
func (s *Server) Stop() {
	if s.command == nil {
		return
	}
	_ = s.command.Process.Kill()
	_ = s.command.Wait()
	_ = s.log.Close()
	s.command = nil
}

// NewClient is one that may do everything.
func (s *Server) NewClient() *clientv3.Client {
	s.t.Helper()
	config := clientv3.Config{Endpoints: []string{s.Client}, DialTimeout: patience, Logger: zap.NewNop()}
	if c := s.options.Certificates; c != nil {
		config.TLS = c.clientConfig(s.t)
	}
	client, err := clientv3.New(config)
	require.NoError(s.t, err)
	s.t.Cleanup(func() { _ = client.Close() })
	return client
}

// Put values of keys.
func Put(t testing.TB, client *clientv3.Client, key, value string) {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	_, err := client.Put(ctx, key, value)
	require.NoError(t, err)
}

// Delete a key.
func Delete(t testing.TB, client *clientv3.Client, key string) {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	_, err := client.Delete(ctx, key)
	require.NoError(t, err)
}

// Metric is what etcd itself says: the value in the line that begins with the name, and labels, as they are
// written there.
func (s *Server) Metric(name string) float64 {
	s.t.Helper()
	response, err := http.Get("http://" + s.Metrics + "/metrics")
	require.NoError(s.t, err)
	defer response.Body.Close()
	body, err := io.ReadAll(response.Body)
	require.NoError(s.t, err)
	for line := range strings.Lines(string(body)) {
		if text, ok := strings.CutPrefix(line, name+" "); ok {
			value, err := strconv.ParseFloat(strings.TrimSpace(text), 64)
			require.NoError(s.t, err)
			return value
		}
	}
	require.Fail(s.t, fmt.Sprintf("etcd has no metric %s", name))
	return 0
}
