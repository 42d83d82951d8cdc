// Copyright The otelcol-tapio Authors
// SPDX-License-Identifier: Apache-2.0

//go:build linux

package cluster // import "github.com/tapio-io/otelcol-tapio/test/kubernetes/cluster"

import (
	"fmt"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"

	"github.com/stretchr/testify/require"
)

// NodeName is that of a Node in its cluster.
const NodeName = "node-1"

// Ports in the node's own network.
const (
	nodeEtcdPort    = 23790
	nodePeerPort    = 23800
	nodeServicePort = 26443
	nodeAddress     = "10.99.0.1"
)

// Node is a cluster of one node, with everything that a real one has: scheduler, controllers,
// kube-proxy, kubelet and containerd. It has a network namespace and a mount namespace of its own, and
// all of its containers are in a cgroup of its own.
type Node struct {
	*ControlPlane
	// Scope is the cgroup v2 path, below the mount, that all containers are in.
	Scope string

	network string // name of the network namespace
	mounts  int    // pid of a process in the mount namespace
	cgroups *cgroups
}

// StartNode runs one until the test ends, and waits until pods can run. It needs root.
func StartNode(t testing.TB) *Node {
	t.Helper()
	require.Zero(t, os.Getuid(), "a node needs root")
	name := fmt.Sprintf("tapio-k8s-%d", os.Getpid())
	restoreSysctls(t)
	node := &Node{network: name, Scope: "/" + name}
	node.makeNetwork(t)
	node.cgroups = newCgroups(t, name)
	node.makeMounts(t)
	s := &setup{
		folder: t.TempDir(), wrap: node.Command,
		etcdPort: nodeEtcdPort, peerPort: nodePeerPort, port: nodeServicePort,
		arguments: []string{"--advertise-address=" + nodeAddress, "--service-cluster-ip-range=10.96.0.0/24", "--allow-privileged=true", "--kubelet-preferred-address-types=InternalIP"},
	}
	s.hostPort = node.forward(t, nodeServicePort)
	node.ControlPlane = s.startControlPlane(t)
	node.startRuntime(t)
	node.startComponents(t)
	node.awaitReady(t)
	return node
}

// PodCgroups is the folder of the pods' cgroups.
func (n *Node) PodCgroups() string { return n.cgroups.podFolder() }

func (n *Node) staticPods() string { return filepath.Join(n.Folder, "manifests") }

// RunStatic has the kubelet run a pod by its manifest, also without an API server. There it has the name and the
// node's, with a hyphen between them.
func (n *Node) RunStatic(t testing.TB, name, manifest string) {
	t.Helper()
	unfinished := n.write(t, name+".json", manifest)
	require.NoError(t, os.Rename(unfinished, filepath.Join(n.staticPods(), name+".json")))
}

// Command is one in the node's network and among its mounts.
func (n *Node) Command(name string, arguments ...string) *exec.Cmd {
	inside := []string{"--net=/run/netns/" + n.network}
	if n.mounts != 0 {
		inside = append(inside, fmt.Sprintf("--mount=/proc/%d/ns/mnt", n.mounts))
	}
	command := exec.Command("nsenter", append(append(inside, name), arguments...)...)
	command.Args[0] = filepath.Base(name) // nsenter does not mind, and its log is named so
	return command
}

func run(t testing.TB, name string, arguments ...string) {
	t.Helper()
	output, err := exec.CommandContext(t.Context(), name, arguments...).CombinedOutput()
	require.NoError(t, err, "%s %s: %s", name, strings.Join(arguments, " "), output)
}

func (n *Node) makeNetwork(t testing.TB) {
	run(t, "ip", "netns", "add", n.network)
	t.Cleanup(func() { _ = exec.Command("ip", "netns", "del", n.network).Run() })
	for _, arguments := range []string{
		"link set lo up", "link add br-node type bridge", "addr add " + nodeAddress + "/24 dev br-node",
		"link set br-node up", "route add default dev br-node",
	} {
		run(t, "ip", append([]string{"-n", n.network}, strings.Fields(arguments)...)...)
	}
}

// makeMounts has the mount namespace, which goes with its last process. What the components write to
// fixed places (networks of pods, logs, CNI's cache) goes there as well.
func (n *Node) makeMounts(t testing.TB) {
	const script = `mount -t tmpfs tmpfs /run && mount -t tmpfs tmpfs /var/lib && mount -t tmpfs tmpfs /var/log && echo ready && exec sleep 2147483647`
	holder := exec.Command("unshare", "--mount", "--propagation", "private", "sh", "-c", script)
	output, err := holder.StdoutPipe()
	require.NoError(t, err)
	holder.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	require.NoError(t, holder.Start())
	t.Cleanup(func() {
		_ = holder.Process.Kill()
		_ = holder.Wait()
	})
	said := make([]byte, len("ready\n"))
	_, err = output.Read(said)
	require.NoError(t, err, "make the node's mounts")
	n.mounts = holder.Process.Pid
}

// restoreSysctls puts back what the kubelet sets for the whole machine.
func restoreSysctls(t testing.TB) {
	for _, name := range []string{
		"vm/overcommit_memory", "vm/panic_on_oom", "kernel/panic", "kernel/panic_on_oops",
		"kernel/keys/root_maxkeys", "kernel/keys/root_maxbytes",
	} {
		file := filepath.Join("/proc/sys", name)
		before, err := os.ReadFile(file)
		if err != nil {
			continue // not every kernel has keys
		}
		t.Cleanup(func() { _ = os.WriteFile(file, before, 0) })
	}
}

func (n *Node) write(t testing.TB, name, content string) string {
	t.Helper()
	file := filepath.Join(n.Folder, name)
	require.NoError(t, os.MkdirAll(filepath.Dir(file), 0o755))
	require.NoError(t, os.WriteFile(file, []byte(content), 0o600))
	return file
}

func (n *Node) socket() string { return filepath.Join(n.Folder, "containerd.sock") }

// startRuntime begins containerd in the scope, so that whatever it starts is there, too: with cgroup v1
// beside v2, containers have their own cgroups in v1 only.
func (n *Node) startRuntime(t testing.TB) {
	n.write(t, "cni/10.conflist", fmt.Sprintf(`{"cniVersion": "0.4.0", "name": "pods", "plugins": [
		{"type": "bridge", "bridge": "cni0", "isGateway": true, "hairpinMode": true,
		 "ipam": {"type": "host-local", "dataDir": %q, "ranges": [[{"subnet": "10.244.0.0/16"}]], "routes": [{"dst": "0.0.0.0/0"}]}},
		{"type": "loopback"}]}`, filepath.Join(n.Folder, "addresses")))
	config := n.write(t, "containerd.toml", fmt.Sprintf(`version = 2
root = %q
state = %q
[grpc]
  address = %q
[plugins."io.containerd.grpc.v1.cri"]
  sandbox_image = %q
  restrict_oom_score_adj = true
  [plugins."io.containerd.grpc.v1.cri".cni]
    bin_dir = "/usr/lib/cni"
    conf_dir = %q
`, filepath.Join(n.Folder, "root"), filepath.Join(n.Folder, "state"), n.socket(), Image, filepath.Join(n.Folder, "cni")))
	containerd := n.Command("containerd", "--config", config)
	n.cgroups.place(containerd)
	start(t, n.Folder, containerd)
	n.importBusybox(t)
}

func (n *Node) startComponents(t testing.TB) {
	kubeconfig := n.write(t, "inside.kubeconfig", kubeconfigOf("https://127.0.0.1:"+strconv.Itoa(nodeServicePort), Admin))
	kubelet := n.write(t, "kubelet.yaml", fmt.Sprintf(`apiVersion: kubelet.config.k8s.io/v1beta1
kind: KubeletConfiguration
address: %[1]s
authentication: {anonymous: {enabled: true}, webhook: {enabled: false}}
authorization: {mode: AlwaysAllow}
cgroupDriver: cgroupfs
cgroupRoot: %[2]s
failSwapOn: false
failCgroupV1: false
oomScoreAdj: 0
enforceNodeAllocatable: []
evictionHard: {memory.available: "1Mi"}
makeIPTablesUtilChains: false
resolvConf: ""
clusterDNS: [%[1]s]
clusterDomain: %[7]s
podLogsDir: %[3]s
staticPodPath: %[4]s
syncFrequency: 5s
volumePluginDir: %[5]s
containerRuntimeEndpoint: unix://%[6]s
serializeImagePulls: false
maxPods: 500
registerWithTaints: []
`, nodeAddress, n.Scope, filepath.Join(n.Folder, "logs"), n.staticPods(), filepath.Join(n.Folder, "plugins"), n.socket(), clusterDomain))
	require.NoError(t, os.MkdirAll(n.staticPods(), 0o755))
	n.component(t, "kubelet", "--config="+kubelet, "--kubeconfig="+kubeconfig, "--root-dir="+filepath.Join(n.Folder, "kubelet"),
		"--cert-dir="+filepath.Join(n.Folder, "kubelet-certificates"), "--hostname-override="+NodeName, "--node-ip="+nodeAddress)
	n.component(t, "kube-controller-manager", "--kubeconfig="+kubeconfig, "--bind-address=127.0.0.1", "--leader-elect=false",
		"--service-account-private-key-file="+filepath.Join(n.Folder, "service-accounts.key"), "--root-ca-file="+filepath.Join(n.Folder, "certificates", "apiserver.crt"))
	n.component(t, "kube-scheduler", "--kubeconfig="+kubeconfig, "--bind-address=127.0.0.1", "--leader-elect=false")
	n.component(t, "kube-proxy", "--kubeconfig="+kubeconfig, "--hostname-override="+NodeName, "--proxy-mode=iptables",
		"--conntrack-max-per-core=0", "--conntrack-tcp-timeout-established=0", "--conntrack-tcp-timeout-close-wait=0",
		"--bind-address="+nodeAddress, "--metrics-bind-address=127.0.0.1:10249", "--cluster-cidr=10.244.0.0/16")
}

func (n *Node) component(t testing.TB, name string, arguments ...string) {
	binary, err := Binary(t.Context(), name)
	require.NoError(t, err)
	start(t, n.Folder, n.Command(binary, arguments...))
}

// awaitReady waits for what pods need: a node that takes them, and a service account.
func (n *Node) awaitReady(t testing.TB) {
	require.Eventually(t, func() bool {
		_, node, err := n.try(http.MethodGet, "/api/v1/nodes/"+NodeName, "")
		return err == nil && strings.Contains(string(node), `"reason":"KubeletReady"`) &&
			n.Try(http.MethodGet, "/api/v1/namespaces/default/serviceaccounts/default", "") == nil
	}, patience, pollInterval, "the node does not become ready")
}
