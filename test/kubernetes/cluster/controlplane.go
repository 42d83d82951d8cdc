// Copyright The otelcol-tapio Authors
// SPDX-License-Identifier: Apache-2.0

//go:build linux

package cluster // import "github.com/tapio-io/otelcol-tapio/test/kubernetes/cluster"

import (
	"cmp"
	"context"
	"crypto/rand"
	"crypto/rsa"
	"crypto/tls"
	"crypto/x509"
	"encoding/json"
	"encoding/pem"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

// Users of the control plane, whose tokens are their names. Admin may do everything, all others what
// is bound to them.
const (
	Admin = "admin"
	Agent = "agent"
	Other = "other"
)

// ControlPlane is an etcd and a kube-apiserver, on loopback.
type ControlPlane struct {
	// Folder has the logs and everything else.
	Folder string
	// Port of the API server on loopback, where it serves HTTPS.
	Port int

	etcd      string // URL, in the network that it runs in
	client    *http.Client
	apiServer *process
	launch    func() *process
}

// setup is how components are run.
type setup struct {
	folder string
	// wrap puts a command where it belongs, as into a network namespace.
	wrap func(name string, arguments ...string) *exec.Cmd
	// etcdPort and peerPort of etcd, and port of the API server.
	etcdPort, peerPort, port int
	// hostPort is where the test finds the API server; 0: at its own port.
	hostPort int
	// arguments are more ones for the API server.
	arguments []string
}

// StartControlPlane runs one until the test ends. Pods can be made with any node's name, there is no
// scheduler.
func StartControlPlane(t testing.TB) *ControlPlane {
	t.Helper()
	s := &setup{folder: t.TempDir(), wrap: exec.Command, etcdPort: freePort(t), peerPort: freePort(t), port: freePort(t)}
	// there is no controller that would make service accounts
	s.arguments = []string{"--bind-address=127.0.0.1", "--disable-admission-plugins=ServiceAccount", "--service-cluster-ip-range=10.96.0.0/16"}
	return s.startControlPlane(t)
}

func (s *setup) startControlPlane(t testing.TB) *ControlPlane {
	t.Helper()
	etcd, err := exec.LookPath("etcd")
	require.NoError(t, err, "apt-get install etcd-server")
	apiServer, err := Binary(t.Context(), "kube-apiserver")
	require.NoError(t, err)
	start(t, s.folder, s.wrap(etcd, s.etcdArguments()...))
	arguments := append(s.apiServerArguments(t), s.arguments...)
	plane := &ControlPlane{
		Folder: s.folder,
		Port:   cmp.Or(s.hostPort, s.port),
		etcd:   "http://127.0.0.1:" + strconv.Itoa(s.etcdPort),
		client: &http.Client{Transport: &http.Transport{
			TLSClientConfig:   &tls.Config{InsecureSkipVerify: true}, // made by the server itself, on loopback
			ForceAttemptHTTP2: true,                                  // thousands of objects, one connection
		}},
		launch: func() *process { return start(t, s.folder, s.wrap(apiServer, arguments...)) },
	}
	t.Cleanup(plane.client.CloseIdleConnections)
	plane.Restart(t)
	return plane
}

func (s *setup) etcdArguments() []string {
	local := func(port int) string { return "http://127.0.0.1:" + strconv.Itoa(port) }
	return []string{
		"--data-dir=" + filepath.Join(s.folder, "etcd"), "--unsafe-no-fsync",
		"--listen-client-urls=" + local(s.etcdPort), "--advertise-client-urls=" + local(s.etcdPort),
		"--listen-peer-urls=" + local(s.peerPort), "--initial-advertise-peer-urls=" + local(s.peerPort),
		"--initial-cluster=default=" + local(s.peerPort),
	}
}

func (s *setup) apiServerArguments(t testing.TB) []string {
	key := filepath.Join(s.folder, "service-accounts.key")
	writeKey(t, key)
	tokens := filepath.Join(s.folder, "tokens.csv")
	lines := "admin,admin,1,system:masters\nagent,agent,2\nother,other,3\n"
	require.NoError(t, os.WriteFile(tokens, []byte(lines), 0o600))
	return []string{
		"--etcd-servers=http://127.0.0.1:" + strconv.Itoa(s.etcdPort),
		"--secure-port=" + strconv.Itoa(s.port), "--cert-dir=" + filepath.Join(s.folder, "certificates"),
		"--service-account-issuer=https://kubernetes.default.svc",
		"--service-account-key-file=" + key, "--service-account-signing-key-file=" + key,
		"--token-auth-file=" + tokens, "--authorization-mode=RBAC", "--profiling=false",
	}
}

func writeKey(t testing.TB, file string) {
	key, err := rsa.GenerateKey(rand.Reader, 2048)
	require.NoError(t, err)
	block := &pem.Block{Type: "RSA PRIVATE KEY", Bytes: x509.MarshalPKCS1PrivateKey(key)}
	require.NoError(t, os.WriteFile(file, pem.EncodeToMemory(block), 0o600))
}

// freePort is one that nobody listens on just now.
func freePort(t testing.TB) int {
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	defer listener.Close()
	return listener.Addr().(*net.TCPAddr).Port
}

// Kill ends the API server at once, as a crash does. Its connections are reset.
func (c *ControlPlane) Kill() { c.apiServer.kill() }

// Restart starts the API server and waits for it.
func (c *ControlPlane) Restart(t testing.TB) {
	t.Helper()
	c.apiServer = c.launch()
	require.Eventually(t, func() bool {
		// the namespace is made some time after the server is ready
		return c.Try(http.MethodGet, "/readyz", "") == nil && c.Try(http.MethodGet, "/api/v1/namespaces/default", "") == nil
	}, patience, pollInterval, "the API server is not ready: %s", c.apiServer.log)
}

// URL of the API server.
func (c *ControlPlane) URL() string { return "https://127.0.0.1:" + strconv.Itoa(c.Port) }

// Kubeconfig writes a file for a user, and returns its path.
func (c *ControlPlane) Kubeconfig(t testing.TB, user string) string {
	t.Helper()
	file := filepath.Join(c.Folder, user+".kubeconfig")
	require.NoError(t, os.WriteFile(file, []byte(kubeconfigOf(c.URL(), user)), 0o600))
	return file
}

// Do sends an admin's request, and returns the answer. An object is JSON or YAML; of a PATCH it is a
// merge patch.
func (c *ControlPlane) Do(t testing.TB, method, path, object string) []byte {
	t.Helper()
	code, body, err := c.try(method, path, object)
	require.NoError(t, err)
	require.Less(t, code, 300, "%s %s: %s", method, path, body)
	return body
}

// Bind makes a ClusterRole, and gives it to a user.
func (c *ControlPlane) Bind(t testing.TB, user, role string) {
	t.Helper()
	const rbac = "/apis/rbac.authorization.k8s.io/v1/"
	var made struct {
		Metadata struct{ Name string }
	}
	require.NoError(t, json.Unmarshal(c.Do(t, http.MethodPost, rbac+"clusterroles", role), &made))
	c.Do(t, http.MethodPost, rbac+"clusterrolebindings", fmt.Sprintf(`{"metadata": {"name": %q},
		"roleRef": {"apiGroup": "rbac.authorization.k8s.io", "kind": "ClusterRole", "name": %q},
		"subjects": [{"apiGroup": "rbac.authorization.k8s.io", "kind": "User", "name": %q}]}`, user, made.Metadata.Name, user))
}

// Try is Do for what may fail.
func (c *ControlPlane) Try(method, path, object string) error {
	code, body, err := c.try(method, path, object)
	if err == nil && code >= 300 {
		err = fmt.Errorf("%s %s: %d: %s", method, path, code, body)
	}
	return err
}

func (c *ControlPlane) try(method, path, object string) (int, []byte, error) {
	ctx, cancel := context.WithTimeout(context.Background(), 30*time.Second)
	defer cancel()
	request, err := http.NewRequestWithContext(ctx, method, c.URL()+path, strings.NewReader(object))
	if err != nil {
		return 0, nil, err
	}
	request.Header.Set("Content-Type", contentType(method, object))
	request.Header.Set("Authorization", "Bearer "+Admin)
	response, err := c.client.Do(request)
	if err != nil {
		return 0, nil, err
	}
	defer response.Body.Close()
	body, err := io.ReadAll(response.Body)
	return response.StatusCode, body, err
}

func contentType(method, object string) string {
	switch {
	case method == http.MethodPatch:
		return "application/merge-patch+json"
	case strings.HasPrefix(object, "{"):
		return "application/json"
	default:
		return "application/yaml"
	}
}

func kubeconfigOf(url, user string) string {
	return fmt.Sprintf(`apiVersion: v1
kind: Config
clusters: [{name: test, cluster: {server: %q, insecure-skip-tls-verify: true}}]
users: [{name: test, user: {token: %s}}]
contexts: [{name: test, context: {cluster: test, user: test}}]
current-context: test
`, url, user)
}
