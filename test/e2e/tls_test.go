// Copyright The otelcol-tapio Authors
// SPDX-License-Identifier: Apache-2.0

//go:build linux

package e2e

import (
	"bytes"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	_ "embed"
	"encoding/json"
	"encoding/pem"
	"errors"
	"fmt"
	"io"
	"math/big"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"go.opentelemetry.io/collector/pdata/plog"
	"go.opentelemetry.io/collector/pdata/ptrace"

	"github.com/tapio-io/otelcol-tapio/internal/porttest"
)

func init() { workloads["shakeHands"] = shakeHands }

//go:embed testdata/tls.conf
var tlsConfig string

// writeCertificate writes one for all names of the shop, which signs itself, and its key.
func writeCertificate(t *testing.T, dir string, others ...string) string {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	require.NoError(t, err)
	template := &x509.Certificate{
		SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: shopDomain}, DNSNames: append([]string{"*." + shopDomain}, others...),
		NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour), IsCA: true, BasicConstraintsValid: true,
	}
	der, err := x509.CreateCertificate(rand.Reader, template, template, &key.PublicKey, key)
	require.NoError(t, err)
	private, err := x509.MarshalPKCS8PrivateKey(key)
	require.NoError(t, err)
	var content bytes.Buffer
	require.NoError(t, pem.Encode(&content, &pem.Block{Type: "CERTIFICATE", Bytes: der}))
	require.NoError(t, pem.Encode(&content, &pem.Block{Type: "PRIVATE KEY", Bytes: private}))
	path := filepath.Join(dir, "certificate.pem")
	require.NoError(t, os.WriteFile(path, content.Bytes(), 0o600))
	return path
}

// tlsShop is a network with servers of TLS.
type tlsShop struct {
	*network
	scope       cgroup
	certificate string
	nginx, slow *server
	curls       []curlOverTLS
}

// thinking is how long the slow server takes for each ClientHello.
const thinking = 500 * time.Millisecond

func startTLSShop(t *testing.T, scope cgroup) *tlsShop {
	t.Helper()
	s := &tlsShop{network: newNetwork(t), scope: scope}
	s.resolve(map[string]string{shopDomain: "127.0.0.1"})
	dir, port := publicDir(t), porttest.Free(t)
	s.certificate = writeCertificate(t, dir)
	config := filepath.Join(dir, "nginx.conf")
	content := strings.NewReplacer("@DIR@", dir, "@PORT@", strconv.Itoa(port)).Replace(tlsConfig)
	require.NoError(t, os.WriteFile(config, []byte(content), 0o644))
	nginx := s.within(scope.command(t, "nginx", "-p", dir, "-e", "stderr", "-c", config))
	nginx.SysProcAttr.Pdeathsig = syscall.SIGTERM // its workers would live on if it was killed
	s.nginx = startServer(t, newServer(nginx, "", port))
	s.slow = s.startPython(t, "slow", fmt.Sprint(thinking.Seconds()))
	return s
}

func (s *tlsShop) startPython(t *testing.T, mode, rest string) *server {
	t.Helper()
	port := porttest.Free(t)
	command := s.within(s.scope.command(t, "python3", testdata(t, "tls.py"), mode, strconv.Itoa(port), s.certificate, rest))
	return startServer(t, newServer(command, "", port))
}

// curlOverTLS is what a curl says of its handshake, and what is to be told of that.
type curlOverTLS struct {
	name       string
	args       []string
	server     *server
	exit       int
	attributes map[string]any

	pid       int64
	handshake time.Duration // time_appconnect without time_connect
}

func (c *curlOverTLS) host() string { return c.name + "." + shopDomain }

func (s *tlsShop) curl(t *testing.T, c curlOverTLS) {
	t.Helper()
	args := append([]string{"-q", "-s", "--noproxy", "*", "-o", "/dev/null", "-w", "%{time_connect} %{time_appconnect}"}, c.args...)
	command := s.within(s.scope.command(t, "curl", append(args, fmt.Sprintf("https://%s:%d/", c.host(), c.server.port))...))
	out, err := command.Output()
	exit := &exec.ExitError{}
	if c.exit != 0 {
		require.True(t, errors.As(err, &exit), "%s: %v", c.name, err)
		require.Equal(t, c.exit, exit.ExitCode(), c.name)
	} else {
		require.NoError(t, err, c.name)
	}
	var connected, appConnected float64
	_, err = fmt.Sscan(string(out), &connected, &appConnected)
	require.NoError(t, err, "%q", out)
	c.pid = int64(command.Process.Pid)
	c.handshake = time.Duration((appConnected - connected) * float64(time.Second))
	s.curls = append(s.curls, c)
}

// TestTLSHandshakes compares what is told of handshakes with what curl says of them.
func TestTLSHandshakes(t *testing.T) {
	requireBPF(t)
	scope := newCgroup(t)
	s := startTLSShop(t, scope)
	c := startCollector(t, scope)
	trusted := []string{"--cacert", s.certificate}
	with := func(more ...string) []string { return append(more, trusted...) }
	for _, curl := range []curlOverTLS{
		{name: "newest", args: trusted, server: s.nginx, attributes: map[string]any{"tls.protocol.version": "1.3"}},
		{name: "older", args: with("--tls-max", "1.2"), server: s.nginx, attributes: map[string]any{
			"tls.protocol.version": "1.2", "tls.next_protocol": "h2",
		}},
		{name: "no-http2", args: with("--tls-max", "1.2", "--http1.1"), server: s.nginx, attributes: map[string]any{
			"tls.protocol.version": "1.2", "tls.next_protocol": "http/1.1",
		}},
		{name: "another-hello", args: with("--curves", "X448:P-256"), server: s.nginx, attributes: map[string]any{"tls.protocol.version": "1.3"}},
		{name: "slow", args: trusted, server: s.slow, attributes: map[string]any{"tls.protocol.version": "1.3"}},
		{name: "not-trusted", server: s.nginx, exit: 60, attributes: map[string]any{
			"tls.protocol.version": "1.3", "error.type": "unknown_ca", "tapio.tls.alert.sender": "client", "tapio.tls.alert.code": int64(48),
		}},
		{name: "not-trusted-older", args: []string{"--tls-max", "1.2"}, server: s.nginx, exit: 60, attributes: map[string]any{
			"tls.protocol.version": "1.2", "tls.next_protocol": "h2", "error.type": "unknown_ca", "tapio.tls.alert.sender": "client", "tapio.tls.alert.code": int64(48),
		}},
		{name: "too-old", args: with("--tls-max", "1.1", "--ciphers", "DEFAULT:@SECLEVEL=0"), server: s.nginx, exit: 35, attributes: map[string]any{
			"error.type": "protocol_version", "tapio.tls.alert.sender": "server", "tapio.tls.alert.code": int64(70),
		}},
	} {
		s.curl(t, curl)
	}
	c.await("the handshakes, and the ends of all programs", func(o *output) bool {
		return len(named(o.spans, "tls.handshake")) == len(s.curls) && len(named(o.spans, "process.exec")) >= 2*len(s.curls)
	})
	stopDNS(c)
	for _, curl := range s.curls {
		t.Run(curl.name, func(t *testing.T) { curl.check(t, &c.output) })
	}
	s.checkFailures(t, &c.output)
	checkDurations(t, &c.output)
}

// check that the handshake of a curl is beside what else it waited for, and took as long as it says.
func (c *curlOverTLS) check(t *testing.T, o *output) {
	program := byPID(named(o.spans, "process.exec"))[c.pid][1]
	require.Equal(t, "curl", program.text("process.executable.name"))
	w := waitedFor(o.spans, program)
	require.Len(t, w.connects, 1)
	require.NotEmpty(t, w.lookups)
	handshakes := named(children(o.spans, program), "tls.handshake")
	require.Len(t, handshakes, 1)
	handshake, connect := handshakes[0], w.connects[0]
	assert.Equal(t, ptrace.SpanKindClient, handshake.kind)
	assert.Equal(t, c.host(), handshake.text("server.address"))
	assert.Equal(t, c.host(), connect.text("server.address"))
	assert.EqualValues(t, c.server.port, handshake.number("server.port"))
	assert.Equal(t, connect.number("network.local.port"), handshake.number("network.local.port"))
	assert.Equal(t, c.exit == 0, handshake.attributes["tls.established"])
	assert.Equal(t, c.name == "another-hello", handshake.has("tapio.tls.hello_retry"))
	for _, key := range []string{"tls.protocol.version", "tls.next_protocol", "error.type", "tapio.tls.alert.sender", "tapio.tls.alert.code"} {
		assert.Equal(t, c.attributes[key], handshake.attributes[key], key)
	}
	if c.exit != 0 {
		assert.Equal(t, ptrace.StatusCodeError, handshake.status)
		return
	}
	assert.Equal(t, false, handshake.attributes["tls.resumed"])
	assert.LessOrEqual(t, connect.end, handshake.time)
	took := handshake.end.AsTime().Sub(handshake.time.AsTime())
	assert.LessOrEqual(t, took, c.handshake+time.Millisecond, "curl says")
	if c.name == "slow" {
		assert.GreaterOrEqual(t, took, thinking)
	}
	t.Logf("%s; curl says %s", took, c.handshake)
}

// checkFailures: each is told at both ends.
func (s *tlsShop) checkFailures(t *testing.T, o *output) {
	failures := map[string]int{}
	for _, log := range named(o.logs, "tapio.tls.failure") {
		assert.Equal(t, plog.SeverityNumberWarn, log.severity)
		failures[fmt.Sprintf("%s of %s at the %s", log.text("error.type"), log.text("server.address"), log.text("tapio.network.role"))]++
	}
	want := map[string]int{}
	for _, curl := range s.curls {
		if curl.exit == 0 {
			continue
		}
		for _, role := range []string{"client", "server"} {
			want[fmt.Sprintf("%s of %s at the %s", curl.attributes["error.type"], curl.host(), role)]++
		}
	}
	assert.Equal(t, want, failures)
}

func checkDurations(t *testing.T, o *output) {
	points := o.points("tapio.tls.handshake.duration")
	for _, role := range []string{"client", "server"} {
		assert.EqualValues(t, 3, total(points, "tapio.network.role", role, "tls.protocol.version", "1.3", "error.type", nil))
		assert.EqualValues(t, 1, total(points, "tapio.network.role", role, "error.type", "protocol_version"))
	}
}

// TestHandlersHandshake: that of a thread which serves a request is a child of the server's span.
func TestHandlersHandshake(t *testing.T) {
	requireBPF(t)
	scope := newCgroup(t)
	s := startTLSShop(t, scope)
	c := startCollector(t, scope)
	host := "back." + shopDomain
	asks := s.startPython(t, "asks", fmt.Sprintf("%s:%d", host, s.slow.port))
	command := s.within(scope.command(t, "curl", "-q", "-s", "--noproxy", "*", fmt.Sprintf("http://127.0.0.1:%d/", asks.port)))
	require.NoError(t, command.Run())
	c.await("the request and what it waited for", func(o *output) bool {
		return len(o.exchanges(ptrace.SpanKindServer)) == 1 && len(named(o.spans, "tls.handshake")) == 1
	})
	stopDNS(c)
	served := c.output.exchanges(ptrace.SpanKindServer)[0]
	w := waitedFor(c.output.spans, served)
	assert.NotEmpty(t, w.lookups)
	require.Len(t, w.connects, 1)
	handshakes := named(children(c.output.spans, served), "tls.handshake")
	require.Len(t, handshakes, 1)
	assert.Equal(t, host, handshakes[0].text("server.address"))
	assert.Equal(t, served.traceID, handshakes[0].traceID)
}

// TestTLSOfOpenSSL: sessions that are resumed, data that is sent before there is an answer, and a cipher suite that Go does
// not know.
func TestTLSOfOpenSSL(t *testing.T) {
	requireBPF(t)
	scope, dir := newCgroup(t), t.TempDir()
	s := &tlsShop{network: newNetwork(t), scope: scope, certificate: writeCertificate(t, dir)}
	port := s.startOpenSSL(t)
	early := filepath.Join(dir, "early")
	require.NoError(t, os.WriteFile(early, []byte(strings.Repeat("early", 2000)), 0o600))
	newest, older := filepath.Join(dir, "newest"), filepath.Join(dir, "older")
	c := startCollector(t, scope)
	want := map[string]map[string]any{}
	for _, run := range []struct {
		name, says string
		args       []string
		session    string // the file in which the server's ticket will be
		version    string
		cipher     string
	}{
		{"newest", "New, TLSv1.3", []string{"-tls1_3", "-sess_out", newest}, newest, "1.3", "TLS_AES_256_GCM_SHA384"},
		{"early", "Early data was accepted", []string{"-tls1_3", "-sess_in", newest, "-early_data", early}, "", "1.3", "TLS_AES_256_GCM_SHA384"},
		{"older", "New, TLSv1.2", []string{"-tls1_2", "-sess_out", older}, older, "1.2", "TLS_ECDHE_ECDSA_WITH_AES_256_GCM_SHA384"},
		{"older-again", "Reused, TLSv1.2", []string{"-tls1_2", "-sess_in", older}, "", "1.2", "TLS_ECDHE_ECDSA_WITH_AES_256_GCM_SHA384"},
		{"rare", "New, TLSv1.2", []string{"-tls1_2", "-cipher", "ECDHE-ECDSA-AES128-CCM8"}, "", "1.2", "TLS_ECDHE_ECDSA_WITH_AES_128_CCM_8"},
	} {
		host := run.name + "." + shopDomain
		require.Contains(t, s.talkOpenSSL(t, port, host, run.session, run.args...), run.says, run.name)
		resumed := !strings.HasPrefix(run.says, "New")
		want[host] = map[string]any{"tls.established": true, "tls.protocol.version": run.version, "tls.cipher": run.cipher, "tls.curve": nil, "tls.resumed": resumed}
		if run.version == "1.3" {
			want[host]["tls.curve"] = "x25519"
		}
	}
	c.await("the handshakes", func(o *output) bool { return len(named(o.spans, "tls.handshake")) == len(want) })
	c.stop().requireClosed(t)
	got := map[string]map[string]any{}
	for _, span := range named(c.output.spans, "tls.handshake") {
		said := map[string]any{}
		for _, key := range []string{"tls.established", "tls.protocol.version", "tls.cipher", "tls.curve", "tls.resumed"} {
			said[key] = span.attributes[key]
		}
		got[span.text("server.address")] = said
	}
	assert.Equal(t, want, got)
	assert.Empty(t, named(c.output.logs, "tapio.tls.failure"))
	served := total(c.output.points("tapio.tls.handshake.duration"), "tapio.network.role", "server", "error.type", nil)
	assert.EqualValues(t, len(want), served)
}

// startOpenSSL starts a server that takes early data and any cipher suite.
func (s *tlsShop) startOpenSSL(t *testing.T) (port int) {
	t.Helper()
	port = porttest.Free(t)
	command := s.within(s.scope.command(t, "openssl", "s_server", "-quiet", "-accept", fmt.Sprintf("127.0.0.1:%d", port),
		"-cert", s.certificate, "-key", s.certificate, "-early_data", "-max_early_data", "16384", "-cipher", "ALL"))
	_, err := command.StdinPipe() // it would end with its input
	require.NoError(t, err)
	startServer(t, newServer(command, "", port))
	return port
}

// talkOpenSSL returns what a client says of its handshake. With a session, it does not end before that is there.
func (s *tlsShop) talkOpenSSL(t *testing.T, port int, host, session string, args ...string) string {
	t.Helper()
	args = append([]string{"s_client", "-connect", fmt.Sprintf("127.0.0.1:%d", port), "-servername", host, "-CAfile", s.certificate}, args...)
	command := s.within(s.scope.command(t, "openssl", args...))
	in, err := command.StdinPipe()
	require.NoError(t, err)
	var out bytes.Buffer
	command.Stdout = &out
	require.NoError(t, command.Start())
	if session != "" {
		require.Eventually(t, func() bool { info, err := os.Stat(session); return err == nil && info.Size() > 0 }, patience, pollInterval)
	}
	require.NoError(t, in.Close())
	require.NoError(t, command.Wait(), out.String())
	return out.String()
}

// shaken is a handshake, as its client knows it.
type shaken struct {
	Name    string
	Version uint16
	Took    time.Duration
}

// shakeHands CERTIFICATE COUNT is both ends of so many connections at a time, of TLS 1.2 and 1.3 in turn.
func shakeHands(args []string) error {
	certificate, err := tls.LoadX509KeyPair(args[0], args[0])
	if err != nil {
		return err
	}
	listener, err := tls.Listen("tcp", "127.0.0.1:0", &tls.Config{Certificates: []tls.Certificate{certificate}})
	if err != nil {
		return err
	}
	count := number(args[1])
	go func() {
		for range count {
			connection, err := listener.Accept()
			if err != nil {
				return
			}
			go io.Copy(connection, connection)
		}
	}()
	pool := x509.NewCertPool()
	pool.AddCert(certificate.Leaf)
	var group sync.WaitGroup
	all, errs := make([]shaken, count), make([]error, count)
	for i := range all {
		all[i] = shaken{Name: fmt.Sprintf("n%d.%s", i, shopDomain), Version: tls.VersionTLS12 + uint16(i%2)}
		group.Go(func() { errs[i] = all[i].shake(listener.Addr().String(), pool) })
	}
	group.Wait()
	if err := errors.Join(errs...); err != nil {
		return err
	}
	return json.NewEncoder(os.Stdout).Encode(all)
}

func (s *shaken) shake(address string, pool *x509.CertPool) error {
	connection, err := net.Dial("tcp", address)
	if err != nil {
		return err
	}
	over := tls.Client(connection, &tls.Config{ServerName: s.Name, RootCAs: pool, MaxVersion: s.Version})
	began := time.Now()
	if err := over.Handshake(); err != nil {
		return fmt.Errorf("shake hands with %s: %w", s.Name, err)
	}
	s.Took = time.Since(began)
	if _, err := io.WriteString(over, "x"); err != nil {
		return err
	}
	if _, err := io.ReadFull(over, make([]byte, 1)); err != nil {
		return err
	}
	return over.Close()
}

// TestTLSLossyNetwork: handshakes whose segments are lost, or come twice or out of order, are told as what arrived
// in the end. The certificate alone needs several segments.
func TestTLSLossyNetwork(t *testing.T) {
	requireBPF(t)
	const count = 300
	scope := newCgroup(t)
	var others []string
	for i := range 250 {
		others = append(others, fmt.Sprintf("a-name-that-makes-the-certificate-longer-%d.test", i))
	}
	certificate := writeCertificate(t, t.TempDir(), others...)
	lossyNetwork := newNetwork(t)
	lossyNetwork.run(strings.TrimSuffix(lossy, `exec "$@"`) + "true")
	c := startCollector(t, scope, "receivers::tapioebpf::families::network::report_interval: 2s") // twice that, and what is left behind is counted
	p := scope.startBy(t, lossyNetwork.by(), "shakeHands", certificate, count)
	var all []shaken
	require.NoError(t, json.Unmarshal([]byte(p.line()), &all))
	c.await("each end of each handshake, told or counted", func(o *output) bool {
		row := c.stats().Ledger["network"] // aggregated are those of the server, of which there are metrics only
		return len(named(o.spans, "tls.handshake"))+int(row.Aggregated+row.Lost["unreadable"]) >= 2*count
	})
	p.wait()
	rows := c.stop()
	rows.requireClosed(t)
	told := map[string]item{}
	for _, span := range named(c.output.spans, "tls.handshake") {
		told[span.text("server.address")] = span
	}
	require.Len(t, told, count)
	for _, truth := range all {
		span := told[truth.Name]
		assert.Equal(t, true, span.attributes["tls.established"], truth.Name)
		assert.Equal(t, map[uint16]string{tls.VersionTLS12: "1.2", tls.VersionTLS13: "1.3"}[truth.Version], span.text("tls.protocol.version"))
		assert.LessOrEqual(t, span.end.AsTime().Sub(span.time.AsTime()), truth.Took+time.Millisecond, truth.Name)
	}
	assert.Empty(t, named(c.output.logs, "tapio.tls.failure"))
	// A hello's second segment that comes before the first, and before the connection has a socket, is not seen.
	unread := int64(rows["network"].Lost["unreadable"])
	served := total(c.output.points("tapio.tls.handshake.duration"), "tapio.network.role", "server", "error.type", nil)
	assert.EqualValues(t, count, served+unread)
	assert.LessOrEqual(t, unread, int64(count/50))
	t.Logf("of %d handshakes, %d could not be followed at the server", count, unread)
}
