// Copyright The otelcol-tapio Authors
// SPDX-License-Identifier: Apache-2.0

package jaeger

import (
	"bytes"
	"encoding/json"
	"fmt"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

// root of the project.
const root = "../.."

// process that runs until the test ends.
type process struct {
	command *exec.Cmd
	log     string // path
	ended   chan struct{}
}

// start has what the process says in a file, and shows it if the test fails. If the test is killed, so is
// the process.
func start(t *testing.T, command *exec.Cmd, run func(func() error) error) *process {
	t.Helper()
	p := &process{command: command, log: filepath.Join(t.TempDir(), "log"), ended: make(chan struct{})}
	log, err := os.Create(p.log)
	require.NoError(t, err)
	defer log.Close()
	if command.Stdout == nil {
		command.Stdout = log
	}
	command.Stderr = log
	if command.SysProcAttr == nil {
		command.SysProcAttr = &syscall.SysProcAttr{}
	}
	command.SysProcAttr.Pdeathsig = syscall.SIGKILL
	require.NoError(t, run(command.Start), "start %s", command)
	go func() {
		defer close(p.ended)
		_ = command.Wait() // what the test wants of it, it says itself
	}()
	t.Cleanup(func() {
		p.end()
		if t.Failed() {
			t.Logf("%s said at last:\n%s", command, p.tail())
		}
	})
	return p
}

// here runs the function as it is.
func here(run func() error) error { return run() }

// end asks it to, and kills it if it does not.
func (p *process) end() {
	_ = p.command.Process.Signal(syscall.SIGTERM)
	select {
	case <-p.ended:
	case <-time.After(patience):
		_ = p.command.Process.Kill()
		<-p.ended
	}
}

func (p *process) tail() string {
	content, err := os.ReadFile(p.log)
	if err != nil {
		return err.Error()
	}
	lines := bytes.Split(bytes.TrimSpace(content), []byte("\n"))
	return string(bytes.Join(lines[max(0, len(lines)-20):], []byte("\n")))
}

func (p *process) hasEnded() bool {
	select {
	case <-p.ended:
		return true
	default:
		return false
	}
}

// freePort is one that nobody listens on at the moment.
func freePort(t *testing.T) string {
	t.Helper()
	listener, err := net.Listen("tcp4", "127.0.0.1:0")
	require.NoError(t, err)
	defer listener.Close()
	return strconv.Itoa(listener.Addr().(*net.TCPAddr).Port)
}

// backend is a Jaeger of this test alone.
type backend struct {
	Server
	*process
	endpoint string // for OTLP/gRPC
}

// startJaeger with all in memory.
func startJaeger(t *testing.T) *backend {
	t.Helper()
	return startJaegerWith(t, "memory.yaml", "JAEGER_OTLP_PORT="+freePort(t), "JAEGER_QUERY_PORT="+freePort(t))
}

// startKeeping has a Jaeger that keeps its traces. It has each span once, however often it comes. The one with all in
// memory need not: what it has shown it has changed, and then does not know it again.
func startKeeping(t *testing.T) *backend {
	t.Helper()
	return startJaegerWith(t, "badger.yaml", "JAEGER_DATA="+t.TempDir(),
		"JAEGER_OTLP_PORT="+freePort(t), "JAEGER_QUERY_PORT="+freePort(t), "JAEGER_HEALTH_PORT="+freePort(t))
}

// startJaegerWith a configuration of deploy/jaeger, and the ports that the environment says. It returns when it can
// be asked.
func startJaegerWith(t *testing.T, config string, environment ...string) *backend {
	t.Helper()
	binary, err := Binary(t.Context())
	require.NoError(t, err)
	command := exec.Command(binary, "--config", filepath.Join(root, "deploy", "jaeger", config))
	command.Env = append(append(os.Environ(), "JAEGER_GRPC_PORT=0"), environment...)
	value := func(name string) (value string) {
		for _, variable := range environment {
			if after, ok := strings.CutPrefix(variable, name+"="); ok {
				value = after
			}
		}
		return value
	}
	b := &backend{
		Server:   Server("http://localhost:" + value("JAEGER_QUERY_PORT")),
		process:  start(t, command, here),
		endpoint: "localhost:" + value("JAEGER_OTLP_PORT"),
	}
	require.Eventually(t, func() bool {
		_, err := b.Services(t.Context())
		return err == nil || b.hasEnded()
	}, patience, pollInterval, "Jaeger cannot be asked")
	require.False(t, b.hasEnded(), "Jaeger has ended")
	return b
}

func builtCollector(t *testing.T) string {
	t.Helper()
	binary, err := filepath.Abs(filepath.Join(root, "bin", "otelcol-tapio"))
	require.NoError(t, err)
	require.FileExists(t, binary, "run make build first")
	return binary
}

// collector is the built one with the default pipeline.
type collector struct {
	*process
	stats string // URL
	data  string // folder
}

// startCollector that sends its spans to the endpoint. It returns when it is ready.
func startCollector(t *testing.T, endpoint, scope string, overrides ...string) *collector {
	t.Helper()
	return startNode(t, []string{filepath.Join(root, "otelcol-jaeger.yaml")}, []string{"TAPIO_OTLP_ENDPOINT=" + endpoint, "TAPIO_SCOPE=" + scope}, overrides...)
}

// startNode has the default pipeline with other files over it, and an environment.
func startNode(t *testing.T, files, environment []string, overrides ...string) *collector {
	t.Helper()
	port := freePort(t)
	command := exec.Command(builtCollector(t), "--config", filepath.Join(root, "otelcol-config.yaml"))
	for _, file := range files {
		command.Args = append(command.Args, "--config", file)
	}
	for _, override := range append(overrides,
		"extensions::tapio::endpoint: localhost:"+port,
		"exporters::prometheus::endpoint: localhost:0",
		"service::telemetry::metrics: {level: none, readers: []}") {
		command.Args = append(command.Args, "--config", "yaml:"+override)
	}
	c := &collector{stats: "http://localhost:" + port, data: t.TempDir()}
	command.Env = append(append(os.Environ(), "TAPIO_DATA="+c.data), environment...)
	c.process = start(t, command, here)
	require.Eventually(t, func() bool { return c.isReady() || c.hasEnded() }, patience, pollInterval, "the collector is not ready")
	require.False(t, c.hasEnded(), "the collector has ended")
	return c
}

func (c *collector) isReady() bool {
	response, err := http.Get(c.stats + "/readyz")
	if err != nil {
		return false
	}
	response.Body.Close()
	return response.StatusCode == http.StatusOK
}

// listens looks for a TCP socket that listens on the port, in the process's network.
func (p *process) listens(port int) bool {
	content, _ := os.ReadFile(fmt.Sprintf("/proc/%d/net/tcp", p.command.Process.Pid))
	for line := range strings.Lines(string(content)) {
		const listening = "0A"
		if fields := strings.Fields(line); len(fields) > 3 && strings.HasSuffix(fields[1], fmt.Sprintf(":%04X", port)) && fields[3] == listening {
			return true
		}
	}
	return false
}

// requireNothingLost looks into the ledger.
func (c *collector) requireNothingLost(t *testing.T) {
	t.Helper()
	response, err := http.Get(c.stats + "/stats")
	require.NoError(t, err)
	defer response.Body.Close()
	var stats struct {
		Ledger map[string]struct{ Lost map[string]int }
	}
	require.NoError(t, json.NewDecoder(response.Body).Decode(&stats))
	require.NotEmpty(t, stats.Ledger)
	for family, row := range stats.Ledger {
		require.Empty(t, row.Lost, family)
	}
}
