// Copyright The otelcol-tapio Authors
// SPDX-License-Identifier: Apache-2.0

package kubernetes

import (
	"fmt"
	"maps"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/tapio-io/otelcol-tapio/test/jaeger"
	"github.com/tapio-io/otelcol-tapio/test/kubernetes/cluster"
)

const jaegerImage = "docker.io/jaegertracing/jaeger:2.13.0"

// TestDeploy does what deploy/kubernetes/README.md says: image, manifests, Jaeger, and a shop of two pods. A request
// through a Service is one trace with the names of both.
func TestDeploy(t *testing.T) {
	if !cluster.Enabled() {
		t.Skip(cluster.Reason)
	}
	node := cluster.StartNode(t)
	node.StartDNS(t)
	node.ImportImage(t, buildImage(t))
	program, err := jaeger.Binary(t.Context())
	require.NoError(t, err)
	node.ImportProgram(t, jaegerImage, program)
	node.ImportProgram(t, "docker.io/tapio/shop:1", buildShop(t))
	c := newClient(t, node.ControlPlane)
	t.Cleanup(c.explain)

	assert.Equal(t, shownInReadme(t, "up"), withoutHashes(c.tapio("up", variantOf(t, node, "jaeger"))))
	node.NameServices(t)
	c.kubectl("apply", "-f", "testdata/shop.yaml")
	node.NameServices(t)
	server := jaeger.Server("http://127.0.0.1:" + c.forward("tapio", "service/jaeger", 16686))
	requireShop(t, c.awaitRequest(server))
	c.requireQuiet()
	c.requireSecured()

	status := c.tapio("status")
	assert.Regexp(t, `http: seen \d+, exported \d+, lost 0`, status)
	assert.Regexp(t, `process: seen \d+, exported \d+, lost 0`, status)
	assert.NotContains(t, status, "API server:")
	compared := c.tapio("compare", variantOf(t, node, "simulator"))
	for _, family := range []string{"process", "network", "dns", "http"} {
		assert.Regexp(t, `(?m)^`+family+` +[1-9]\d* +\d+ +0 +[1-9]\d* +\d+ +0$`, compared, "each has seen some, and lost none")
	}
	c.requireStopped(node)
}

// shownInReadme is what deploy/tapio says to a command, line by line.
func shownInReadme(t *testing.T, command string) []string {
	t.Helper()
	found := regexp.MustCompile("(?s)\n\\$ [^\n]*deploy/tapio " + command + "\n(.*?)```").FindStringSubmatch(readFile(t, readme))
	require.NotNil(t, found, command)
	return withoutHashes(found[1])
}

// withoutHashes has the lines that are the same each time.
func withoutHashes(said string) (lines []string) {
	for line := range strings.Lines(said) {
		if !strings.HasPrefix(line, "Waiting for ") {
			lines = append(lines, regexp.MustCompile(`(configmap/\S+-config)-\S+`).ReplaceAllString(line, "$1-…"))
		}
	}
	return lines
}

func buildShop(t *testing.T) (program string) {
	program = filepath.Join(t.TempDir(), "shop")
	build := exec.CommandContext(t.Context(), "go", "build", "-o", program, "./shop")
	build.Env = append(os.Environ(), "CGO_ENABLED=0")
	output, err := build.CombinedOutput()
	require.NoError(t, err, "%s", output)
	return program
}

// client is somebody who has kubectl.
type client struct {
	t          *testing.T
	binary     string
	kubeconfig string
}

func newClient(t *testing.T, plane *cluster.ControlPlane) *client {
	t.Helper()
	binary, err := cluster.Binary(t.Context(), "kubectl")
	require.NoError(t, err)
	return &client{t, binary, plane.Kubeconfig(t, cluster.Admin)}
}

func (c *client) in(t *testing.T) *client { return &client{t, c.binary, c.kubeconfig} }

// explain says why the test has failed.
func (c *client) explain() {
	if !c.t.Failed() {
		return
	}
	for _, what := range []string{"get pods -A -o wide", "describe pods -n tapio", "logs -n tapio daemonset/agent --tail 50", "logs customer --tail 20"} {
		output, _ := c.command(c.binary, strings.Fields(what)...).CombinedOutput()
		c.t.Logf("kubectl %s:\n%s", what, output)
	}
	status, _ := c.command(deploy+"/tapio", "status").CombinedOutput()
	c.t.Logf("deploy/tapio status:\n%s", status)
}

func (c *client) command(name string, arguments ...string) *exec.Cmd {
	command := exec.Command(name, arguments...)
	command.Env = append(os.Environ(), "KUBECONFIG="+c.kubeconfig, "KUBECTL="+c.binary)
	command.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	return command
}

func (c *client) run(name string, arguments ...string) string {
	c.t.Helper()
	output, err := c.command(name, arguments...).CombinedOutput()
	require.NoError(c.t, err, "%s %s: %s", filepath.Base(name), strings.Join(arguments, " "), output)
	return string(output)
}

func (c *client) kubectl(arguments ...string) string {
	c.t.Helper()
	return c.run(c.binary, arguments...)
}

func (c *client) tapio(arguments ...string) string {
	c.t.Helper()
	start := time.Now()
	output := c.run(deploy+"/tapio", arguments...)
	c.t.Logf("deploy/tapio %s (%.0f s)\n%s", strings.Join(arguments, " "), time.Since(start).Seconds(), output)
	return output
}

// refuses is a command that deploy/tapio does not do, and why.
func (c *client) refuses(message string, arguments ...string) {
	c.t.Helper()
	output, err := c.command(deploy+"/tapio", arguments...).CombinedOutput()
	assert.Error(c.t, err, arguments)
	assert.Contains(c.t, string(output), message)
}

// variantOf is one of those in deploy/kubernetes, with the agents' scope: the containers of the node under test, on a
// machine that runs other things, too.
func variantOf(t *testing.T, node *cluster.Node, name string) (folder string) {
	scope := "--config=yaml:receivers::tapioebpf::scope::cgroups: [" + node.Scope + "]"
	return overlay(t, deploy+"/kubernetes/"+name, patch(fmt.Sprintf(`{op: add, path: /spec/template/spec/containers/0/args/-, value: %q}`, scope)))
}

// forward has "kubectl port-forward" listen on a port of loopback.
func (c *client) forward(namespace, of string, port int) string {
	c.t.Helper()
	command := c.command(c.binary, "-n", namespace, "port-forward", of, fmt.Sprintf(":%d", port))
	output, err := command.StdoutPipe()
	require.NoError(c.t, err)
	require.NoError(c.t, command.Start())
	c.t.Cleanup(func() {
		_ = command.Process.Kill()
		_ = command.Wait()
	})
	said := make([]byte, 256)
	n, err := output.Read(said)
	require.NoError(c.t, err, "kubectl port-forward %s", of)
	found := regexp.MustCompile(`127\.0\.0\.1:(\d+)`).FindSubmatch(said[:n])
	require.NotNil(c.t, found, "%s", said[:n])
	return string(found[1])
}

// awaitRequest is what a program of the customer's did: the first whole tree with a request and who served it.
func (c *client) awaitRequest(server jaeger.Server) (request tree) {
	c.t.Helper()
	require.Eventually(c.t, func() bool {
		found, err := server.Traces(c.t.Context(), jaeger.Search{Service: "shop", Operation: "GET"})
		if err != nil {
			return false
		}
		for _, trace := range found {
			for _, root := range trace.Trees() {
				request = treeOf(trace, root)
				if request.has("process.exec internal", "GET client", "GET server") {
					return true
				}
			}
		}
		return false
	}, patience, time.Second, "Jaeger has no trace of a request between the pods")
	return request
}

// tree is a part of a trace, its spans by name and kind.
type tree struct {
	spans     map[string]*jaeger.Span
	processes map[string]jaeger.Process
}

func treeOf(trace jaeger.Trace, root *jaeger.Node) tree {
	t := tree{map[string]*jaeger.Span{}, trace.Processes}
	root.Walk(func(node *jaeger.Node, _ int) {
		t.spans[node.Operation+" "+node.Tag("span.kind")] = node.Span
	})
	return t
}

func (t tree) has(names ...string) bool {
	return !slices.ContainsFunc(names, func(name string) bool { return t.spans[name] == nil })
}

// requireShop: a program in one pod looks a Service up, connects to it, and asks; a pod behind it answers.
func requireShop(t *testing.T, request tree) {
	t.Helper()
	require.True(t, request.has("dns.query client", "tcp.connect client"), maps.Keys(request.spans))
	asked, served := request.spans["GET client"], request.spans["GET server"]
	customer, shop := request.processes[asked.Process], request.processes[served.Process]
	assert.Equal(t, "customer", customer.Tag("k8s.pod.name"))
	assert.Regexp(t, `^shop-[0-9a-f]+-\w+$`, shop.Tag("k8s.pod.name"))
	assert.Equal(t, "shop", shop.Tag("k8s.deployment.name"))
	assert.Equal(t, "shop", shop.Service)
	assert.Equal(t, "shop", asked.Tag("tapio.peer.k8s.service.name"))
	assert.Equal(t, "customer", served.Tag("tapio.peer.k8s.pod.name"))
	assert.Equal(t, asked.ID, served.References[0].SpanID)
	assert.Equal(t, "200", served.Tag("http.response.status_code"))
	for _, span := range request.spans {
		resource := request.processes[span.Process]
		assert.Equal(t, "ebpf", resource.Tag("tapio.source"))
		assert.Equal(t, cluster.NodeName, resource.Tag("k8s.node.name"))
		assert.Equal(t, cluster.NodeName, resource.Tag("host.name"))
		assert.Len(t, resource.Tag("container.id"), 64)
	}
}

// requireQuiet: what matters for security is in the log, and what the container runtime does is a matter of course, also
// where it is older than the agent.
func (c *client) requireQuiet() {
	c.t.Helper()
	_ = c.command(c.binary, "exec", "customer", "--", "/program", "ask", "file:///var/run/secrets/kubernetes.io/serviceaccount/token").Run()
	var said string
	require.Eventually(c.t, func() bool {
		said = c.kubectl("-n", "tapio", "logs", "daemonset/agent")
		return strings.Contains(said, "tapio.security.file.sensitive_access")
	}, patience, time.Second)
	assert.NotContains(c.t, said, "tapio.security.process.comm: Str(containerd")
	assert.NotContains(c.t, said, "tapio.security.process.comm: Str(runc")
}

// requireSecured: the agent has three capabilities and no more, and can get no others.
func (c *client) requireSecured() {
	c.t.Helper()
	status := c.run("sh", "-c", `cat /proc/$(pgrep -f '^/otelcol-tapio --config=/etc/otelcol-tapio/agent.yaml' -n)/status`)
	const three = 1<<39 | 1<<38 | 1<<12 // CAP_BPF, CAP_PERFMON, CAP_NET_ADMIN
	for _, set := range []string{"CapEff", "CapPrm", "CapBnd"} {
		assert.Contains(c.t, status, fmt.Sprintf("%s:\t%016x\n", set, uint64(three)))
	}
	assert.Contains(c.t, status, "NoNewPrivs:\t1\n")
	assert.Contains(c.t, status, "Seccomp:\t2\n")
}

// requireStopped: nothing is left of what "up" has made, also for a gateway, but its volumes go only if they may.
func (c *client) requireStopped(node *cluster.Node) {
	c.t.Helper()
	c.kubectl("delete", "-f", "testdata/shop.yaml", "--wait=false", "--grace-period=1")
	c.kubectl("apply", "-k", deploy+"/gateway/joined")
	const volumes = "persistentvolumeclaim/state-gateway-sampler-"
	require.Eventually(c.t, func() bool {
		return strings.Contains(c.kubectl("-n", "tapio", "get", "persistentvolumeclaims", "-o", "name"), volumes)
	}, patience, time.Second)
	agents := variantOf(c.t, node, "simulator")
	c.refuses(volumes, "down", agents)
	c.tapio("down", "--all", agents)
	for _, kind := range []string{"namespaces", "clusterroles", "clusterrolebindings", "priorityclasses"} {
		left := c.kubectl("get", kind, "-o", "name")
		assert.NotContains(c.t, left, "tapio")
	}
}
