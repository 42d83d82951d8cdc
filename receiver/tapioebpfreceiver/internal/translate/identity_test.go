// Copyright The otelcol-tapio Authors
// SPDX-License-Identifier: Apache-2.0

package translate

import (
	"net/netip"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"go.opentelemetry.io/collector/pdata/pcommon"

	"github.com/tapio-io/otelcol-tapio/bpf"
	"github.com/tapio-io/otelcol-tapio/receiver/tapioebpfreceiver/internal/correlate"
	"github.com/tapio-io/otelcol-tapio/receiver/tapioebpfreceiver/internal/event"
	"github.com/tapio-io/otelcol-tapio/receiver/tapioebpfreceiver/internal/event/eventtest"
	"github.com/tapio-io/otelcol-tapio/receiver/tapioebpfreceiver/internal/identity"
	"github.com/tapio-io/otelcol-tapio/receiver/tapioebpfreceiver/internal/identity/kube"
	"github.com/tapio-io/otelcol-tapio/receiver/tapioebpfreceiver/internal/ledger"
	"github.com/tapio-io/otelcol-tapio/receiver/tapioebpfreceiver/internal/source"
)

const (
	containerID = "3f4e5d6c7b8a99a0b1c2d3e4f5061728394a5b6c7d8e9f00112233445566778a"
	podUID      = "2c48913c-b29f-11e7-9350-020968147796"
	inPod       = "/kubepods.slice/kubepods-pod2c48913c_b29f_11e7_9350_020968147796.slice/cri-containerd-" + containerID + ".scope"
)

// fakeNames know one pod and the peers that a test gives them.
type fakeNames struct {
	pod     *kube.Pod
	peers   map[string]kube.Peer
	version uint64
	asked   int
}

func (f *fakeNames) Pod(uid string) *kube.Pod {
	if f.pod == nil || f.pod.UID != uid {
		return nil
	}
	return f.pod
}

func (f *fakeNames) Container(id string) (*kube.Pod, *kube.Container) {
	if f.pod == nil {
		return nil, nil
	}
	for i := range f.pod.Containers {
		if f.pod.Containers[i].ID == id {
			return f.pod, &f.pod.Containers[i]
		}
	}
	return nil, nil
}

func (f *fakeNames) Peer(address netip.Addr) kube.Peer {
	f.asked++
	return f.peers[address.String()]
}

func (f *fakeNames) Version() uint64 { return f.version }

func (f *fakeNames) Changes(func(string)) (isAny bool) { return true }

func (f *fakeNames) set(pod *kube.Pod) {
	f.version++
	f.pod = pod
}

func webPod() *kube.Pod {
	return &kube.Pod{
		UID: podUID, Name: "web-7d4b9-x2x", Namespace: "shop", Node: "node-1",
		Owners: []kube.Owner{{Kind: "ReplicaSet", Name: "web-7d4b9", UID: "rs"}, {Kind: "Deployment", Name: "web"}},
		Containers: []kube.Container{{
			ID: containerID, Runtime: "containerd", Name: "nginx", Restarts: 2,
			Image: "registry:5000/team/nginx:1.27", ImageID: "registry:5000/team/nginx@sha256:abc",
		}},
	}
}

// webResource is what a container of the pod has, but for the executable.
var webResource = merge(nodeResource, attributes{
	"service.name": "web", "service.namespace": "shop", "service.version": "1.27", "service.instance.id": "shop.web-7d4b9-x2x.nginx",
	"container.id": containerID, "container.runtime.name": "containerd", "container.image.name": "registry:5000/team/nginx",
	"container.image.tags": []any{"1.27"}, "container.image.repo_digests": []any{"registry:5000/team/nginx@sha256:abc"},
	"k8s.pod.uid": podUID, "k8s.pod.name": "web-7d4b9-x2x", "k8s.namespace.name": "shop", "k8s.node.name": "node-1",
	"k8s.replicaset.name": "web-7d4b9", "k8s.replicaset.uid": "rs", "k8s.deployment.name": "web",
	"k8s.container.name": "nginx", "k8s.container.restart_count": int64(2),
})

// unnamedResource is what the path alone tells of it.
var unnamedResource = merge(nodeResource, attributes{
	"container.id": containerID, "container.runtime.name": "containerd", "k8s.pod.uid": podUID,
})

func of(resource attributes, executable, name string) attributes {
	described := merge(resource, attributes{"process.executable.path": executable, "process.executable.name": name})
	if described["service.name"] == nil {
		described["service.name"] = name
	}
	return described
}

func newNamedWorld(maxWaiting int) (*world, *fakeNames) {
	names := &fakeNames{}
	return newWorldOfNames(names, maxWaiting), names
}

func newWorldOfNames(names identity.Names, maxWaiting int) *world {
	w := &world{account: &ledger.Ledger{}}
	w.index = identity.NewIndex(identity.Options{Resolver: nobodyKnown{}, Names: names, Wait: 2 * time.Second})
	w.index.Load([]source.Process{{PID: 1, UID: 0, Executable: "/sbin/init"}})
	describe := Describe{Source: "ebpf", HostName: "node", ScopeName: "scope", ScopeVersion: "1.2.3"}
	w.Translator = New(Options{
		Signals: allSignals, Describe: describe, Start: wallTime(0), SeriesLimit: 100, Processes: true,
		DNSTimeout: 5 * time.Second, MaxWaiting: maxWaiting, Naming: &w.naming,
	}, w.index, correlate.NewIDs(), w.account)
	w.SetBootTime(bootTime)
	return w
}

func made(id uint64, path string) []byte {
	return eventtest.CgroupChange(event.TypeCgroupMade, bpf.WireCgroupChange{Header: bpf.WireEventHeader{CgroupId: id}}, path, true)
}

func resourcesOf(out output) (resources []map[string]any) {
	for _, log := range out.logs {
		resources = append(resources, log.Resource)
	}
	return resources
}

func TestResources(t *testing.T) {
	labelled := webPod()
	labelled.Service = kube.Service{
		Name: "storefront", Namespace: "retail", Version: "9", InstanceID: "one",
		Others: []kube.Attribute{{Key: "deployment.environment.name", Value: "prod"}, {Key: "k8s.pod.name", Value: "another"}, {Key: "host.name", Value: "another"}},
	}
	labelled.Labels = []kube.Attribute{{Key: "k8s.pod.label.team", Value: "a"}}
	labelled.Annotations = []kube.Attribute{{Key: "k8s.pod.annotation.note", Value: "b"}}
	bare := webPod()
	bare.Owners, bare.Containers = nil, nil
	cron := webPod()
	cron.Owners = []kube.Owner{{Kind: "Job", Name: "tidy-1", UID: "j"}, {Kind: "CronJob", Name: "tidy", UID: "c"}}
	foreign := webPod()
	foreign.Owners = []kube.Owner{{Kind: "Job", Name: "train", UID: "v", IsForeign: true}}
	local := webPod()
	local.Containers[0].ImageID = "docker://sha256:1" // built by minikube's own Docker
	pulled := webPod()
	pulled.Containers[0].ImageID = "docker-pullable://registry:5000/team/nginx@sha256:abc"
	other := webPod()
	other.Owners = []kube.Owner{{Kind: "Node", Name: "node-1"}}
	podOnly := without(webResource, "service.version", "service.instance.id", "container.image.name", "container.image.tags",
		"container.image.repo_digests", "k8s.container.name", "k8s.container.restart_count")
	withoutOwners := without(webResource, "k8s.replicaset.name", "k8s.replicaset.uid", "k8s.deployment.name")
	for _, tt := range []struct {
		name, path string
		pod        *kube.Pod
		want       attributes
	}{
		{"a pod's container", inPod, webPod(), webResource},
		{"annotations and labels", inPod, labelled, merge(webResource, attributes{
			"service.name": "storefront", "service.namespace": "retail", "service.version": "9", "service.instance.id": "one",
			"deployment.environment.name": "prod", "k8s.pod.label.team": "a", "k8s.pod.annotation.note": "b",
		})},
		{"a pod without controller, whose container is not known", inPod, bare, merge(without(podOnly, "k8s.replicaset.name", "k8s.replicaset.uid", "k8s.deployment.name"), attributes{
			"service.name": "web-7d4b9-x2x",
		})},
		{"of a CronJob", inPod, cron, merge(withoutOwners, attributes{
			"service.name": "tidy", "k8s.job.name": "tidy-1", "k8s.job.uid": "j", "k8s.cronjob.name": "tidy", "k8s.cronjob.uid": "c",
		})},
		{"of a controller without a name in the conventions", inPod, other, merge(withoutOwners, attributes{"service.name": "web-7d4b9-x2x"})},
		{"of a Job of another API group", inPod, foreign, merge(withoutOwners, attributes{"service.name": "train"})},
		{"an image without a repository", inPod, local, merge(without(webResource, "container.image.repo_digests"), attributes{"container.image.id": "sha256:1"})},
		{"an image that cri-dockerd has pulled", inPod, pulled, webResource},
		{"a pod that is not known", inPod, nil, unnamedResource},
		{"Docker", "/docker/" + containerID, nil, merge(nodeResource, attributes{"container.id": containerID, "container.runtime.name": "docker"})},
		{"unit", "/system.slice/nginx.service", webPod(), merge(nodeResource, attributes{"tapio.systemd.unit": "nginx.service"})},
		{"nothing", "/", webPod(), nodeResource},
	} {
		t.Run(tt.name, func(t *testing.T) {
			w, names := newNamedWorld(10)
			names.set(tt.pod)
			w.Refresh(second)
			w.handle(made(7, tt.path), curl(2*second))
			w.Refresh(10 * second)
			out := w.take(t)
			require.Len(t, out.logs, 1)
			assert.Equal(t, map[string]any(of(tt.want, "/usr/bin/curl", "curl")), out.logs[0].Resource)
			w.requireClosed(t)
		})
	}
}

// A socket's records may come without a process, but not without a cgroup.
func TestResourceOfARecordWithoutProcess(t *testing.T) {
	w, names := newNamedWorld(10)
	names.set(webPod())
	w.Refresh(second)
	w.handle(made(7, inPod), statsRecord(event.TypeConnectionClose, 5*second, func(e *bpf.WireConnectionStats) { e.Header.Pid = 0 }))
	out := w.take(t)
	require.Len(t, out.logs, 1)
	assert.Equal(t, map[string]any(webResource), out.logs[0].Resource)
}

func TestSplitImage(t *testing.T) {
	for image, want := range map[string][3]string{
		"nginx":                          {"nginx", "", ""},
		"nginx:1.27":                     {"nginx", "1.27", ""},
		"registry:5000/nginx":            {"registry:5000/nginx", "", ""},
		"registry:5000/nginx:1@sha256:a": {"registry:5000/nginx", "1", "sha256:a"},
		"nginx@sha256:a":                 {"nginx", "", "sha256:a"},
		"sha256:abc":                     {"sha256", "abc", ""}, // an image without a name, as kubelet shows some
		"":                               {"", "", ""},
	} {
		name, tag, digest := splitImage(image)
		assert.Equal(t, want, [3]string{name, tag, digest}, image)
	}
}

func TestServiceVersion(t *testing.T) {
	pod := &kube.Pod{}
	for image, want := range map[string]string{"a:1": "1", "a:1@sha256:b": "1@sha256:b", "a@sha256:b": "sha256:b", "a": ""} {
		assert.Equal(t, want, serviceVersion(pod, &kube.Container{Image: image}), image)
	}
}

// --- waiting ---------------------------------------------------------------------------------------

func TestRecordsWaitForTheirPod(t *testing.T) {
	w, names := newNamedWorld(10)
	w.Refresh(second)
	w.handle(made(7, inPod), curl(2*second), exitRecord(10, second, 3*second, 0))
	assert.Equal(t, 2, w.Held())
	assert.Nil(t, w.Take())
	w.requireClosed(t)

	names.set(webPod())
	w.Refresh(2500 * second / 1000)
	assert.Zero(t, w.Held())
	out := w.take(t)
	require.Len(t, out.logs, 2)
	for _, resource := range resourcesOf(out) {
		assert.Equal(t, map[string]any(of(webResource, "/usr/bin/curl", "curl")), resource)
	}
	assert.Equal(t, []string{"tapio.process.exec", "tapio.process.exit"}, []string{out.logs[0].Name, out.logs[1].Name}, "in their order")
	assert.Len(t, out.spans, 1)
	assert.EqualValues(t, 2, w.naming.WaitedNamed.Load())
	assert.Zero(t, w.naming.WaitedUnnamed.Load())
	w.requireClosed(t)
}

func TestRecordsGoWithoutNamesInTheEnd(t *testing.T) {
	w, _ := newNamedWorld(10)
	w.Refresh(second)
	w.handle(made(7, inPod), curl(2*second))
	w.Refresh(3*second - 1)
	assert.Equal(t, 1, w.Held())
	w.Refresh(3 * second)
	assert.Zero(t, w.Held())
	out := w.take(t)
	require.Len(t, out.logs, 1)
	assert.Equal(t, map[string]any(of(unnamedResource, "/usr/bin/curl", "curl")), out.logs[0].Resource)
	assert.EqualValues(t, 1, w.naming.WaitedUnnamed.Load())
	w.handle(exitRecord(10, second, 4*second, 0))
	assert.Zero(t, w.Held(), "the container has had its time")
	assert.EqualValues(t, 1, w.naming.WaitedUnnamed.Load(), "the second did not wait")
	assert.EqualValues(t, 2, w.naming.NoPod.Load(), "and has no name all the same")
	assert.Zero(t, w.naming.NoContainer.Load())
	w.requireClosed(t)
}

// A pod is known before its containers run; the container, when the kubelet has told of it.
func TestRecordsGoWithoutTheContainersName(t *testing.T) {
	w, names := newNamedWorld(10)
	pod := webPod()
	pod.Containers = nil
	names.set(pod)
	w.Refresh(second)
	w.handle(made(7, inPod), made(8, "/docker/"+containerID), curl(2*second))
	w.Refresh(3 * second)
	w.handle(exitRecord(10, second, 4*second, 0))
	assert.EqualValues(t, 1, w.naming.WaitedPodNamed.Load())
	assert.EqualValues(t, 2, w.naming.NoContainer.Load())
	assert.Zero(t, w.naming.NoPod.Load())

	names.set(webPod())
	w.Refresh(5 * second)
	w.handle(curl(6*second), dockerExec(11, 6*second))
	assert.EqualValues(t, 2, w.naming.NoContainer.Load(), "now it is known, and Docker's containers are no pods")
	assert.Zero(t, w.naming.WaitedNamed.Load())
	w.requireClosed(t)
}

// dockerExec is in the cgroup 8.
func dockerExec(pid uint32, at uint64) []byte {
	record := execRecord(pid, second, at, 0, "/bin/sh", "/", "sh")
	(*bpf.WireEventHeader)(keptHeader(record)).CgroupId = 8
	return record
}

// What others do meanwhile is told at once, but for those that have a record that waits.
func TestOthersDoNotWait(t *testing.T) {
	w, _ := newNamedWorld(10)
	w.Refresh(second)
	elsewhere := func(record []byte) []byte {
		(*bpf.WireEventHeader)(keptHeader(record)).CgroupId = 8
		return record
	}
	w.handle(made(7, inPod), made(8, "/docker/"+containerID), curl(2*second))
	w.handle(elsewhere(execRecord(11, second, 2*second, 0, "/bin/sh", "/", "sh")))
	assert.Equal(t, 1, w.Held())
	require.Len(t, w.take(t).logs, 1)

	w.handle(elsewhere(exitRecord(10, second, 3*second, 0)), elsewhere(exitRecord(11, second, 3*second, 0)))
	assert.Equal(t, 2, w.Held(), "10 must not end before it starts")
	require.Len(t, w.take(t).logs, 1)
	w.Flush()
	out := w.take(t)
	require.Len(t, out.logs, 2)
	assert.Equal(t, "tapio.process.exec", out.logs[0].Name)
	assert.Zero(t, w.index.Active()-1, "but for process 1")
	w.requireClosed(t)
}

// Where there is no room, the oldest pod has been waited for long enough, and nothing is lost.
func TestThereIsNoRoomToWait(t *testing.T) {
	w, _ := newNamedWorld(3)
	released := 0
	w.waiting.released = func() { released++ }
	w.Refresh(second)
	w.handle(made(7, inPod))
	for pid := uint32(10); pid < 14; pid++ {
		w.handle(execRecord(pid, second, 2*second, 0, "/bin/sh", "/", "sh"))
	}
	assert.Zero(t, w.Held())
	assert.Len(t, w.take(t).logs, 4)
	assert.Equal(t, 3, released)
	assert.EqualValues(t, 3, w.naming.WaitedUnnamed.Load(), "the fourth did not wait")
	w.requireClosed(t)
}

func TestRecordsThatWaitAreBoundedByTheirSize(t *testing.T) {
	w, _ := newNamedWorld(1 << 20)
	w.Refresh(second)
	w.handle(made(7, inPod))
	argument := strings.Repeat("x", 4095)
	for pid := uint32(10); w.naming.WaitedUnnamed.Load() == 0; pid++ {
		require.LessOrEqual(t, w.waiting.bytes, maxWaitingBytes+8192)
		w.handle(execRecord(pid, second, 2*second, 0, "/bin/sh", "/", argument))
	}
	w.requireClosed(t)
}

func TestFlushEndsTheWait(t *testing.T) {
	w, _ := newNamedWorld(10)
	w.Refresh(second)
	w.handle(made(7, inPod), curl(2*second))
	w.Flush()
	assert.Zero(t, w.Held())
	assert.Len(t, w.take(t).logs, 1)
	w.requireClosed(t)
}

// A query that waits must not find, when its turn comes, that its time is over.
func TestTimeStandsStillForWhatWaits(t *testing.T) {
	w, names := newNamedWorld(10)
	w.Refresh(second)
	query, answer := exchangeOf(10, 2*second)
	w.handle(made(7, inPod), query, answer)
	assert.Equal(t, 2, w.Held())
	w.Tick(9 * second)
	names.set(webPod())
	w.Refresh(2 * second)
	out := w.take(t)
	require.Len(t, out.spans, 1)
	assert.NotContains(t, out.spans[0].Attributes, "error.type")
	assert.Equal(t, map[string]any(webResource), out.spans[0].Resource)
	w.requireClosed(t)
}

// exchangeOf a process are a query and its answer, a millisecond later.
func exchangeOf(pid uint32, at uint64) (query, answer []byte) {
	message := func(after uint64, flags uint32, bytes []byte) []byte {
		e := dnsWire(event.TypeDNSMessage, pid, at+after, flags != 0, len(bytes))
		e.Header.StartTime, e.Header.CgroupId, e.Socket = second, 7, 5
		return bytesOf(&e, bytes...)
	}
	return message(0, event.DNSSent, packed(question(1, "a.example"))), message(1e6, 0, packed(reply(1, "a.example", 0, "192.0.2.1")))
}

// FuzzWaiting gives any bytes as records, while a pod is known or not: whatever waits comes to its end, and
// no process's records change places.
func FuzzWaiting(f *testing.F) {
	query, answer := exchangeOf(10, 2*second)
	f.Add(sequence(made(7, inPod), forkRecord(10, second, 1, 0), curl(2*second), query, answer, exitRecord(10, second, 3*second, 0)), uint8(0))
	f.Add(sequence(made(7, inPod), curl(2*second), exitRecord(10, second, 3*second, 0)), uint8(2))
	f.Add(sequence(made(7, inPod), sumRecord(ofServersSum), curl(2*second), sumRecord(ofServersSum)), uint8(0))
	f.Add(sequence(
		made(7, "/\xff.service"), curl(2*second), made(7, inPod), removed(7, 3*second), joined(10, 4, "/docker/"+containerID),
		joined(10, 0, inPod), curl(4*second), removed(9, 0),
	), uint8(1))
	f.Fuzz(func(t *testing.T, bytes []byte, steps uint8) {
		w, names := newNamedWorld(3)
		w.Refresh(second)
		given := records(bytes)
		half := len(given) / 2
		w.handle(given[:half]...)
		w.requireClosed(t)
		if steps&1 != 0 {
			names.set(webPod())
		}
		w.Refresh(2*second + uint64(steps)*second/4)
		w.handle(given[half:]...)
		w.requireClosed(t)
		require.LessOrEqual(t, len(w.waiting.records), 3)
		w.Flush()
		require.Empty(t, w.waiting.records)
		require.Empty(t, w.waiting.processes)
		require.Zero(t, w.waiting.bytes)
		w.requireClosed(t)
		for _, log := range w.take(t).logs {
			requireText(t, log.Resource, log.Attributes)
		}
	})
}

// With cgroup v1 the cgroup in a record says nothing of the container: a child has its from its parent,
// which may be waiting to tell what it runs.
func TestAForkDoesNotOvertakeWhatItsParentRuns(t *testing.T) {
	w, names := newNamedWorld(10)
	w.Refresh(second)
	w.handle(made(7, "/init.scope"), execRecord(10, second, second, 0, "/usr/bin/runc", "/", "runc"), joined(10, 4, inPod),
		curl(2*second), forkRecord(11, 2*second, 10, second), exitRecord(11, 2*second, 3*second, 0))
	assert.Equal(t, 3, w.Held())
	names.set(webPod())
	w.Refresh(2500 * second / 1000)
	assert.Zero(t, w.Held())
	told := map[string]map[string]any{}
	for _, log := range w.take(t).logs {
		told[log.Name] = log.Resource // the last of each
	}
	for _, name := range []string{"tapio.process.exec", "tapio.process.fork", "tapio.process.exit"} {
		assert.Equal(t, map[string]any(of(webResource, "/usr/bin/curl", "curl")), told[name], name)
	}
	w.requireClosed(t)
}

func removed(id, at uint64) []byte {
	return eventtest.CgroupChange(event.TypeCgroupRemoved, bpf.WireCgroupChange{Header: bpf.WireEventHeader{CgroupId: id, Time: at}}, "/", true)
}

func joined(pid, hierarchy uint32, path string) []byte {
	header := bpf.WireEventHeader{Pid: pid, StartTime: second, Time: second, CgroupId: 7}
	return eventtest.CgroupChange(event.TypeCgroupJoined, bpf.WireCgroupChange{Header: header, Hierarchy: hierarchy}, path, true)
}

// --- metrics ---------------------------------------------------------------------------------------

// When a pod becomes known too late, the series of its processes end, and others begin at zero: what is
// counted is never in both.
func TestSeriesOfAPodThatBecomesKnown(t *testing.T) {
	w, names := newNamedWorld(10)
	w.Refresh(second)
	w.handle(made(7, inPod))
	w.Refresh(5 * second)
	w.handle(curl(6 * second))
	names.set(webPod())
	w.Refresh(7 * second)
	w.handle(execRecord(10, second, 8*second, 0, "/usr/bin/curl", "/", "curl"), execRecord(10, second, 9*second, 0, "/usr/bin/curl", "/", "curl"))
	metrics, ok := w.Metrics(wallTime(10 * second))
	require.True(t, ok)
	executions := map[string]int64{}
	active := map[string]int64{}
	for _, of := range metrics.ResourceMetrics().All() {
		resource := of.Resource().Attributes().AsRaw()
		if resource["k8s.pod.uid"] == nil {
			continue
		}
		pod, _ := resource["k8s.pod.name"].(string)
		for _, metric := range of.ScopeMetrics().At(0).Metrics().All() {
			switch metric.Name() {
			case "tapio.process.executions":
				executions[pod] = metric.Sum().DataPoints().At(0).IntValue()
			case "tapio.process.active":
				active[pod] = metric.Sum().DataPoints().At(0).IntValue()
			}
		}
	}
	assert.Equal(t, map[string]int64{"": 1, "web-7d4b9-x2x": 2}, executions)
	assert.Equal(t, map[string]int64{"": 0, "web-7d4b9-x2x": 1}, active)
}

// --- peers -----------------------------------------------------------------------------------------

func TestPeers(t *testing.T) {
	pod := webPod()
	for _, tt := range []struct {
		name string
		peer kube.Peer
		want attributes
	}{
		{"nobody", kube.Peer{}, nil},
		{"a pod", kube.Peer{Kind: kube.PeerPod, Name: pod.Name, Namespace: pod.Namespace, Pod: pod}, attributes{
			"tapio.peer.k8s.pod.name": "web-7d4b9-x2x", "tapio.peer.k8s.namespace.name": "shop", "service.peer.name": "web", "service.peer.namespace": "shop",
		}},
		{"a Service", kube.Peer{Kind: kube.PeerService, Name: "web", Namespace: "shop"}, attributes{
			"tapio.peer.k8s.service.name": "web", "tapio.peer.k8s.namespace.name": "shop",
		}},
		{"a load balancer", kube.Peer{Kind: kube.PeerService, Name: "web", Namespace: "shop", Ports: ",80,443,"}, attributes{
			"tapio.peer.k8s.service.name": "web", "tapio.peer.k8s.namespace.name": "shop",
		}},
		{"a node that is a load balancer on other ports", kube.Peer{Kind: kube.PeerService, Name: "web", Namespace: "shop", Ports: ",44,4430,"}, nil},
		{"the node", kube.Peer{Kind: kube.PeerNode, Name: "node-1"}, attributes{"tapio.peer.k8s.node.name": "node-1"}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			w, names := newNamedWorld(10)
			names.peers = map[string]kube.Peer{"10.0.0.2": tt.peer}
			names.set(nil)
			w.Refresh(second)
			w.handle(connectRecord(10, second, 2*second, 0), connectRecord(10, second, 2*second, 0))
			out := w.take(t)
			require.Len(t, out.spans, 2)
			for key, value := range out.spans[1].Attributes {
				if want, ok := tt.want[key]; ok {
					assert.Equal(t, want, value, key)
				} else {
					assert.NotContains(t, key, "peer.k8s")
					assert.NotContains(t, key, "service.peer")
				}
			}
			for key := range tt.want {
				assert.Contains(t, out.spans[1].Attributes, key)
			}
			assert.Equal(t, "10.0.0.2", out.spans[1].Attributes["network.peer.address"], "as it was")
			assert.Equal(t, "10.0.0.2", out.spans[1].Attributes["server.address"], "as it was")
			assert.Equal(t, 1, names.asked, "it is remembered")

			names.version++
			w.Refresh(3 * second)
			w.handle(connectRecord(10, second, 4*second, 0))
			assert.Equal(t, 2, names.asked, "more may be known")
		})
	}
}

// --- speed -----------------------------------------------------------------------------------------

// BenchmarkRecordsOfAContainer is BenchmarkRecordToPdata where all is known of a pod.
func BenchmarkRecordsOfAContainer(b *testing.B) {
	w, names := newNamedWorld(10)
	names.set(webPod())
	w.Refresh(second)
	w.Handle(made(7, inPod))
	benchHandle(b, w.Translator, w.index, benchRecords(benchLives, always("path")))
}

func BenchmarkDescribeResource(b *testing.B) {
	r := &identity.Resource{Owner: identity.Owner{Place: identity.PlaceOf(inPod), Pod: webPod()}, Name: "nginx", Path: "/usr/sbin/nginx"}
	r.Container = &r.Pod.Containers[0]
	for b.Loop() {
		Describe{Source: "ebpf", HostName: "node"}.resource(pcommon.NewResource(), r)
	}
}
