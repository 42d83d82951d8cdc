// Copyright The otelcol-tapio Authors
// SPDX-License-Identifier: Apache-2.0

package identity

import (
	"fmt"
	"net/netip"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/tapio-io/otelcol-tapio/bpf"
	"github.com/tapio-io/otelcol-tapio/receiver/tapioebpfreceiver/internal/event"
	"github.com/tapio-io/otelcol-tapio/receiver/tapioebpfreceiver/internal/event/eventtest"
	"github.com/tapio-io/otelcol-tapio/receiver/tapioebpfreceiver/internal/identity/kube"
	"github.com/tapio-io/otelcol-tapio/receiver/tapioebpfreceiver/internal/source"
)

// fakeNames know the pods that a test gives them.
type fakeNames struct {
	pods    map[string]*kube.Pod
	version uint64
	changed []string
	any     bool // more has changed than was kept
}

func (f *fakeNames) Pod(uid string) *kube.Pod { return f.pods[uid] }
func (f *fakeNames) Container(id string) (*kube.Pod, *kube.Container) {
	for _, pod := range f.pods {
		for i := range pod.Containers {
			if pod.Containers[i].ID == id {
				return pod, &pod.Containers[i]
			}
		}
	}
	return nil, nil
}
func (f *fakeNames) Peer(netip.Addr) kube.Peer { return kube.Peer{} }
func (f *fakeNames) Version() uint64           { return f.version }

func (f *fakeNames) Changes(visit func(string)) (isAny bool) {
	isAny, f.any = f.any, false
	for _, id := range f.changed {
		if !isAny {
			visit(id)
		}
	}
	f.changed = nil
	return isAny
}

// set makes a pod known, as it is from now on; nil: it is not any more.
func (f *fakeNames) set(uid string, pod *kube.Pod) {
	f.version++
	if pod == nil {
		delete(f.pods, uid)
		return
	}
	f.pods[uid] = pod
	f.changed = append(f.changed, uid)
	for i := range pod.Containers {
		f.changed = append(f.changed, pod.Containers[i].ID)
	}
}

func web(containers ...kube.Container) *kube.Pod {
	return &kube.Pod{UID: uid, Name: "web-1", Namespace: "shop", Containers: containers}
}

const (
	podPath       = "/kubepods/burstable/pod" + uid
	containerPath = podPath + "/" + idA
)

func newNamedIndex(wait time.Duration) (*Index, *fakeNames, *proc) {
	names, resolver := &fakeNames{pods: map[string]*kube.Pod{}}, &proc{known: map[uint32]source.Process{}, cgroups: map[uint64]string{}}
	return NewIndex(Options{Resolver: resolver, Names: names, Wait: wait}), names, resolver
}

func change(kind event.Type, header bpf.WireEventHeader, hierarchy uint32, path string) *event.CgroupChange {
	e, err := event.DecodeCgroupChange(eventtest.CgroupChange(kind, bpf.WireCgroupChange{Header: header, Hierarchy: hierarchy}, path, true))
	if err != nil {
		panic(err)
	}
	return &e
}

func made(id uint64, path string) *event.CgroupChange {
	return change(event.TypeCgroupMade, bpf.WireEventHeader{CgroupId: id}, 0, path)
}

func removed(id, at uint64) *event.CgroupChange {
	return change(event.TypeCgroupRemoved, bpf.WireEventHeader{CgroupId: id, Time: at}, 0, "/")
}

func startedIn(t testing.TB, x *Index, cgroup uint64, pid uint32, since uint64, exe string) *Process {
	return startedWith(t, x, bpf.WireProcessExec{Header: bpf.WireEventHeader{Pid: pid, StartTime: since, Time: since, CgroupId: cgroup}}, exe, "/", exe)
}

func forkedIn(x *Index, cgroup uint64, pid uint32, since uint64, parent *Process) *Process {
	return x.Forked(&bpf.WireProcessFork{
		Header:  bpf.WireEventHeader{Pid: pid, StartTime: since, Time: since, CgroupId: cgroup},
		Process: bpf.WireProcessIdentity{ParentPid: parent.PID, ParentStartTime: parent.StartTime},
	})
}

// Who has a part of the hierarchy to themselves may name a cgroup as they like.
func TestAUnitWhoseNameIsNoText(t *testing.T) {
	x := newIndex(nil)
	x.CgroupMade(made(5, "/user.slice/a\xff.service"))
	p := startedIn(t, x, 5, 10, second, "/bin/a")
	x.CgroupMade(made(6, "/user.slice/a\xff.service/sub"))
	assert.Same(t, x.byCgroup[5], x.byCgroup[6])
	assert.Equal(t, "a\uFFFD.service", p.Resource.Unit)
	requireSound(t, x)
}

// TestAGroupThatOnlyHierarchiesOfVersion1Name may be forgotten while a process outside of it can still come back to it.
func TestAGroupThatOnlyHierarchiesOfVersion1Name(t *testing.T) {
	x := newIndex(nil)
	p := startedIn(t, x, 0, 10, second, "/bin/a")
	x.join(p, PlaceOf("/system.slice/first.service"))
	x.CgroupMade(made(7, "/system.slice/second.service"))
	x.Moved(p, 7) // a unit of the v2 hierarchy counts
	x.sweepAt = 1
	x.CgroupMade(made(8, "/system.slice/other.service"))
	child := forkedIn(x, 0, 11, 2*second, p)
	assert.Equal(t, "first.service", child.Resource.Unit)
	requireSound(t, x)
}

// A fork that was lost loses no container, nor does it for those that come after.
func TestAContainerOfAVersion1IsInheritedWithoutAFork(t *testing.T) {
	x := newIndex(nil)
	parent := started(t, x, 10, second, second, "/bin/sh")
	x.join(parent, PlaceOf("/docker/"+idA))
	child := startedWith(t, x, bpf.WireProcessExec{
		Header:  bpf.WireEventHeader{Pid: 11, StartTime: 2 * second, Time: 2 * second},
		Process: bpf.WireProcessIdentity{ParentPid: 10, ParentStartTime: second},
	}, "/bin/sh", "/")
	assert.Equal(t, idA, child.Resource.ContainerID)
	assert.Equal(t, idA, forkedIn(x, 0, 12, 3*second, child).Resource.ContainerID)

	x.Ended(child, 4*second)
	header := &event.Header{Pid: 11, StartTime: 2 * second}
	assert.Equal(t, idA, x.groupOfRecord(header).ContainerID, "what it leaves behind is the container's, too")
}

func TestProcessOfAContainer(t *testing.T) {
	x := newIndex(nil)
	x.CgroupMade(made(7, "/system.slice/docker-"+idA+".scope"))
	p := startedIn(t, x, 7, 10, second, "/bin/sh")
	assert.Equal(t, Place{Runtime: "docker", ContainerID: idA}, p.Resource.Place)
	assert.Equal(t, "/bin/sh", p.Resource.Path)
	child := forkedIn(x, 7, 11, 2*second, p)
	assert.Same(t, p.Resource, child.Resource)
	requireSound(t, x)
}

func TestExecutablesOfTwoContainersAreTwoResources(t *testing.T) {
	x := newIndex(nil)
	x.LoadCgroups([]source.Cgroup{{ID: 7, Path: "/docker/" + idA}, {ID: 8, Path: "/docker/" + idB}, {ID: 9, Path: "/docker/" + idA + "/init"}})
	a, b := startedIn(t, x, 7, 10, second, "/bin/sh"), startedIn(t, x, 8, 11, second, "/bin/sh")
	assert.NotSame(t, a.Resource, b.Resource)
	assert.NotEqual(t, a.Resource.Key, b.Resource.Key)
	nested := startedIn(t, x, 9, 12, second, "/bin/sh")
	assert.Same(t, a.Resource, nested.Resource, "a cgroup within the container is the container")
	requireSound(t, x)
}

// A runtime starts a process where it is itself, moves it, and lets it start the container's program.
func TestProcessThatIsMoved(t *testing.T) {
	x := newIndex(nil)
	x.LoadCgroups([]source.Cgroup{{ID: 3, Path: "/system.slice/containerd.service"}})
	runc := startedIn(t, x, 3, 10, second, "/usr/sbin/runc")
	assert.Equal(t, Place{Unit: "containerd.service"}, runc.Resource.Place)
	child := forkedIn(x, 3, 11, 2*second, runc)
	x.CgroupMade(made(7, containerPath))
	x.CgroupJoined(change(event.TypeCgroupJoined, bpf.WireEventHeader{Pid: 11, StartTime: 2 * second, CgroupId: 7}, 0, containerPath))
	assert.Equal(t, idA, child.Resource.ContainerID)
	assert.Equal(t, "/usr/sbin/runc", child.Resource.Path)
	startedIn(t, x, 7, 11, 2*second, "/app")
	assert.Equal(t, idA, child.Resource.ContainerID)
	assert.Equal(t, "/app", child.Resource.Path)
	x.Moved(child, 3)
	assert.Equal(t, "containerd.service", child.Resource.Unit, "its last record says so")
	requireSound(t, x)
}

func TestProcessThatIsMovedToACgroupWhoseRecordWasLost(t *testing.T) {
	x := newIndex(nil)
	p := startedIn(t, x, 5, 11, second, "/app") // nobody knows of 5
	require.Same(t, x.nobody, p.group)
	x.CgroupJoined(change(event.TypeCgroupJoined, bpf.WireEventHeader{Pid: 11, StartTime: second, CgroupId: 5}, 0, containerPath))
	assert.Equal(t, idA, p.Resource.ContainerID)
}

// Where the container is in v1 hierarchies only, the id in records is that of another cgroup.
func TestContainerOfCgroupV1(t *testing.T) {
	x := newIndex(nil)
	x.LoadCgroups([]source.Cgroup{{ID: 1, Path: "/"}, {ID: 3, Path: "/system.slice/docker.service"}})
	join := func(pid uint32, hierarchy uint32, path string) {
		x.CgroupJoined(change(event.TypeCgroupJoined, bpf.WireEventHeader{Pid: pid, StartTime: second, CgroupId: 3}, hierarchy, path))
	}
	init := startedIn(t, x, 3, 10, second, "/usr/sbin/runc")
	join(10, 4, "/docker/"+idA)
	join(10, 9, "/system.slice/docker.service") // a hierarchy that knows of no container
	join(10, 5, "/")
	startedIn(t, x, 3, 10, second, "/bin/sh")
	assert.Equal(t, idA, init.Resource.ContainerID)
	assert.Equal(t, "/bin/sh", init.Resource.Path)
	child := forkedIn(x, 3, 11, 2*second, init)
	startedIn(t, x, 3, 11, 2*second, "/bin/sleep")
	assert.Equal(t, idA, child.Resource.ContainerID, "it is inherited")

	other := startedIn(t, x, 3, 20, second, "/usr/bin/dockerd")
	assert.Equal(t, "docker.service", other.Resource.Unit)
	older := x.add(&source.Process{PID: 30, Executable: "/app", CgroupID: 3, Cgroups: []string{"/system.slice/docker.service", "/", "/docker/" + idB}})
	assert.Equal(t, idB, older.Resource.ContainerID)
	requireSound(t, x)
}

func TestUnitOfCgroupV1(t *testing.T) {
	x := newIndex(nil)
	p := x.add(&source.Process{PID: 30, Executable: "/app", CgroupID: 1, Cgroups: []string{"/", "/system.slice/app.service"}})
	assert.Equal(t, "app.service", p.Resource.Unit)
}

func TestACgroupThatIsNotKnownIsAskedForOnce(t *testing.T) {
	x, _, resolver := newNamedIndex(0)
	resolver.cgroups[7] = "/docker/" + idA
	for range 3 {
		assert.Equal(t, idA, x.ResourceOf(&event.Header{CgroupId: 7, Pid: 4}, nil).ContainerID)
		assert.Same(t, x.Unknown(), x.ResourceOf(&event.Header{CgroupId: 8, Pid: 4}, nil))
	}
	assert.Equal(t, []uint64{7, 8}, resolver.askedFor)
	assert.Same(t, x.Unknown(), x.ResourceOf(&event.Header{CgroupId: 9}, nil), "there is nobody to ask")
	assert.Same(t, x.Unknown(), x.ResourceOf(&event.Header{Pid: 4}, nil))
	assert.Equal(t, []uint64{7, 8}, resolver.askedFor)

	resolver.cgroups[8] = "/docker/" + idB // whoever was asked about first had gone already
	x.Refresh(retryAfter)
	for range 3 {
		assert.Equal(t, idB, x.ResourceOf(&event.Header{CgroupId: 8, Pid: 5}, nil).ContainerID)
	}
	assert.Equal(t, []uint64{7, 8, 8}, resolver.askedFor)
}

// Where paths in /proc cannot be turned into ids, their names still tell.
func TestAnOlderProcessInAnotherCgroupNamespace(t *testing.T) {
	x := newIndex(nil)
	x.Load([]source.Process{{PID: 10, Executable: "/app", Cgroups: []string{"/../../docker/" + idA}}})
	assert.Equal(t, idA, x.Find(10, 0).Resource.ContainerID)
	requireSound(t, x)
}

func TestACgroupWhosePathWasCutOffIsAskedFor(t *testing.T) {
	x, _, resolver := newNamedIndex(0)
	x.CgroupMade(made(7, ""))
	resolver.cgroups[7] = "/docker/" + idA
	assert.Equal(t, idA, startedIn(t, x, 7, 10, second, "/app").Resource.ContainerID)
}

func TestARemovedCgroupIsKnownForAWhile(t *testing.T) {
	x := newIndex(nil)
	x.CgroupMade(made(7, containerPath))
	x.CgroupRemoved(removed(7, 10*second))
	x.CgroupRemoved(removed(8, 10*second)) // never heard of
	late := &event.Header{CgroupId: 7}
	assert.Equal(t, idA, x.ResourceOf(late, nil).ContainerID)
	x.Expire(10*second + retention)
	assert.Equal(t, idA, x.ResourceOf(late, nil).ContainerID)
	x.Expire(10*second + retention + 1)
	assert.Same(t, x.Unknown(), x.ResourceOf(late, nil))
	assert.Len(t, x.byPlace, 1, "only nobody is left")
	assert.Empty(t, x.byCgroup)
	assert.Nil(t, x.removed)
}

// A unit that is started again has a new cgroup, and the series of its metrics go on.
func TestAUnitThatIsStartedAgain(t *testing.T) {
	x := newIndex(nil)
	x.CgroupMade(made(7, "/system.slice/a.service"))
	before := startedIn(t, x, 7, 10, second, "/usr/bin/a").Resource.Key
	x.CgroupRemoved(removed(7, 2*second))
	x.Ended(x.Find(10, second), 2*second)
	x.Expire(1000 * second)
	x.CgroupMade(made(8, "/system.slice/a.service"))
	assert.Equal(t, before, startedIn(t, x, 8, 11, 1001*second, "/usr/bin/a").Resource.Key)
	requireSound(t, x)
}

func TestNames(t *testing.T) {
	x, names, _ := newNamedIndex(time.Second)
	x.Refresh(5 * second)
	x.CgroupMade(made(7, containerPath))
	p := startedIn(t, x, 7, 10, 5*second, "/app")
	header := &event.Header{CgroupId: 7, Pid: 10, StartTime: 5 * second}
	require.True(t, x.Awaiting())
	assert.True(t, x.Awaits(header))
	assert.Equal(t, Unnamed, x.KnowledgeOf(header))
	assert.Nil(t, p.Resource.Pod)
	before := p.Resource

	names.set(uid, web())
	assert.False(t, x.Refresh(5*second+1), "the container's name is missing")
	assert.True(t, x.Awaits(header))
	assert.Equal(t, PodNamed, x.KnowledgeOf(header))
	require.Same(t, p, x.Find(10, 5*second))
	assert.Equal(t, "web-1", p.Resource.Pod.Name)
	assert.Nil(t, p.Resource.Container)
	assert.Nil(t, before.Pod, "a resource is never changed")
	assert.NotEqual(t, before.Key, p.Resource.Key)

	names.set(uid, web(kube.Container{ID: idA, Name: "nginx"}))
	assert.True(t, x.Refresh(5*second+2))
	assert.False(t, x.Awaits(header))
	assert.False(t, x.Awaiting())
	assert.Equal(t, Named, x.KnowledgeOf(header))
	assert.Equal(t, NoPod, x.KnowledgeOf(&event.Header{CgroupId: 8}))
	require.Same(t, p, x.Find(10, 5*second))
	assert.Equal(t, "nginx", p.Resource.Container.Name)
	assert.Equal(t, "/app", p.Resource.Path)
	assert.Equal(t, 1, p.Resource.Alive())
	assert.Equal(t, "nginx", x.ResourceOf(header, nil).Container.Name)
	requireSound(t, x)
}

// What a pod's status says changes all the time.
func TestNamesThatAreTheSameMakeNoNewResource(t *testing.T) {
	x, names, _ := newNamedIndex(time.Second)
	names.set(uid, web(kube.Container{ID: idA, Name: "nginx"}))
	x.Refresh(second)
	x.CgroupMade(made(7, containerPath))
	p := startedIn(t, x, 7, 10, second, "/app")
	before := p.Resource
	again := web(kube.Container{ID: idA, Name: "nginx"}, kube.Container{Name: "other"})
	again.Addresses = []netip.Addr{netip.MustParseAddr("10.0.0.1")}
	names.set(uid, again)
	x.Refresh(2 * second)
	assert.Same(t, before, x.Find(10, second).Resource)

	again.Labels = []kube.Attribute{{Key: "k8s.pod.label.a", Value: "b"}}
	changed := *again
	names.set(uid, &changed)
	x.Refresh(3 * second)
	assert.NotSame(t, before, x.Find(10, second).Resource)
	assert.Equal(t, again.Labels, p.Resource.Pod.Labels)
	requireSound(t, x)
}

func TestDeletedPodsKeepTheirNames(t *testing.T) {
	x, names, _ := newNamedIndex(time.Second)
	names.set(uid, web(kube.Container{ID: idA, Name: "nginx"}))
	x.Refresh(second)
	x.CgroupMade(made(7, containerPath))
	p := startedIn(t, x, 7, 10, second, "/app")
	names.set(uid, web()) // it has ended, and another one has taken its place in the status
	x.Refresh(2 * second)
	assert.Equal(t, "nginx", x.Find(10, second).Resource.Container.Name)
	names.set(uid, nil)
	x.Refresh(3 * second)
	x.CgroupRemoved(removed(7, 3*second))
	x.Ended(p, 3*second)
	assert.Equal(t, "web-1", x.Find(10, second).Resource.Pod.Name)
	assert.Equal(t, "web-1", x.ResourceOf(&event.Header{CgroupId: 7}, nil).Pod.Name)
}

// The last records of a container that is gone may be under way when its pod becomes known.
func TestNamesOfProcessesThatHaveEnded(t *testing.T) {
	x, names, _ := newNamedIndex(time.Second)
	x.Refresh(second)
	x.CgroupMade(made(7, containerPath))
	p := startedIn(t, x, 7, 10, second, "/app")
	x.Ended(p, 2*second)
	names.set(uid, web(kube.Container{ID: idA, Name: "nginx"}))
	x.Refresh(2 * second)
	assert.Equal(t, "nginx", x.Find(10, second).Resource.Container.Name)
	requireSound(t, x)
}

func TestAWaitEnds(t *testing.T) {
	x, names, _ := newNamedIndex(time.Second)
	x.Refresh(5 * second)
	x.CgroupMade(made(7, containerPath))
	header := &event.Header{CgroupId: 7}
	assert.False(t, x.Refresh(6*second-1))
	assert.True(t, x.Awaits(header))
	assert.True(t, x.Refresh(6*second))
	assert.False(t, x.Awaits(header))
	assert.False(t, x.Awaiting())
	x.CgroupMade(made(8, containerPath+"/init"))
	assert.False(t, x.Awaits(&event.Header{CgroupId: 8}), "the container has had its time")
	names.set(uid, web(kube.Container{ID: idA, Name: "nginx"}))
	x.Refresh(7 * second)
	assert.Equal(t, "nginx", x.ResourceOf(header, nil).Container.Name, "better late than never")

	x.CgroupMade(made(9, podPath+"x/"+idB))
	other := &event.Header{CgroupId: 9}
	require.True(t, x.Awaits(other))
	x.GiveUp(other)
	assert.False(t, x.Awaits(other))
	assert.True(t, x.Refresh(7*second))
}

func TestWhoDoesNotWait(t *testing.T) {
	x, _, _ := newNamedIndex(time.Second)
	x.LoadCgroups([]source.Cgroup{{ID: 1, Path: "/"}, {ID: 2, Path: "/docker/" + idA}, {ID: 3, Path: "/system.slice/a.service"}})
	for id := range uint64(5) {
		assert.False(t, x.Awaits(&event.Header{CgroupId: id}))
	}
	assert.False(t, x.Awaiting())
	without, _, _ := newNamedIndex(0)
	without.CgroupMade(made(7, containerPath))
	assert.False(t, without.Awaiting(), "waiting is off")
	noKubernetes := newIndex(nil)
	noKubernetes.CgroupMade(made(7, containerPath))
	assert.False(t, noKubernetes.Awaiting())
	assert.False(t, noKubernetes.Refresh(1))
	assert.Equal(t, kube.Peer{}, noKubernetes.Peer(netip.Addr{}))
}

// With cgroup v1 it is the process by which a record's pod is found.
func TestWaitOfCgroupV1(t *testing.T) {
	x, _, _ := newNamedIndex(time.Second)
	startedIn(t, x, 1, 10, second, "/usr/sbin/runc")
	x.CgroupJoined(change(event.TypeCgroupJoined, bpf.WireEventHeader{Pid: 10, StartTime: second, CgroupId: 1}, 4, containerPath))
	assert.True(t, x.Awaits(&event.Header{CgroupId: 1, Pid: 10, StartTime: second}))
	assert.False(t, x.Awaits(&event.Header{CgroupId: 1, Pid: 10, StartTime: 2 * second}), "another process")
	assert.False(t, x.Awaits(&event.Header{CgroupId: 1, Pid: 11, StartTime: second}))
}

// Only those whose names have changed are looked at, unless that cannot be told.
func TestOnlyNamesThatChangedAreLookedUp(t *testing.T) {
	x, names, _ := newNamedIndex(time.Second)
	x.CgroupMade(made(7, containerPath))
	x.CgroupMade(made(8, "/docker/"+idB)) // Kubernetes knows it, its path says nothing of a pod
	of := func(cgroup uint64) *kube.Pod { return x.ResourceOf(&event.Header{CgroupId: cgroup}, nil).Pod }
	names.set("other", &kube.Pod{Name: "other", Containers: []kube.Container{{ID: idB}}})
	x.Refresh(second)
	assert.Equal(t, "other", of(8).Name)

	names.set(uid, web())
	names.changed = nil
	x.Refresh(2 * second)
	assert.Nil(t, of(7))
	names.version++
	names.any = true
	x.Refresh(3 * second)
	assert.Equal(t, "web-1", of(7).Name)
	requireSound(t, x)
}

// What the index holds for the names must not grow with each change of them.
func TestNamesThatChangeAgainAndAgain(t *testing.T) {
	x, names, _ := newNamedIndex(time.Second)
	x.CgroupMade(made(7, containerPath))
	p := startedIn(t, x, 7, 10, second, "/app")
	begun := p.Resource.line
	for n := range 100 {
		pod := web(kube.Container{ID: idA, Name: "nginx", Restarts: n})
		names.set(uid, pod)
		x.Refresh(uint64(n) * second)
	}
	require.Same(t, p, x.Find(10, second))
	assert.Equal(t, 99, p.Resource.Container.Restarts)
	assert.Same(t, begun, p.Resource.line, "whoever was not found meanwhile holds no resource but its own and the latest")
	assert.Equal(t, 1, p.Resource.Alive())
	requireSound(t, x)
	x.Ended(p, 100*second)
	assert.Zero(t, p.Resource.Alive())
	requireSound(t, x)
}

// What is known is found without an allocation.
func TestWhatIsKnownIsFoundWithoutAllocation(t *testing.T) {
	x, header := indexOfAContainer(t)
	ofCgroup := &event.Header{CgroupId: 7}
	for name, find := range map[string]func() bool{
		"process":   func() bool { return x.ResourceOf(header, x.Find(10, second)).Container != nil },
		"container": func() bool { return x.ResourceOf(ofCgroup, nil).Container != nil },
		"knowledge": func() bool { return x.KnowledgeOf(header) == Named },
		"wait":      func() bool { return !x.Awaits(header) },
		"no change": func() bool { return !x.Refresh(2 * second) },
	} {
		found := true
		assert.Zero(t, testing.AllocsPerRun(100, func() { found = found && find() }), name)
		assert.True(t, found, name)
	}
}

// indexOfAContainer has a process in it, and all names.
func indexOfAContainer(t testing.TB) (*Index, *event.Header) {
	x, names, _ := newNamedIndex(time.Second)
	names.set(uid, web(kube.Container{ID: idA, Name: "nginx"}))
	x.Refresh(second)
	x.CgroupMade(made(7, containerPath))
	startedIn(t, x, 7, 10, second, "/app")
	return x, &event.Header{CgroupId: 7, Pid: 10, StartTime: second}
}

// An hour in which a node starts fifty containers a second, each with two processes. Their pods come late, and go.
func TestMemoryOfChurn(t *testing.T) {
	if testing.Short() {
		t.Skip("it takes seconds")
	}
	x, names, _ := newNamedIndex(2 * time.Second)
	const perSecond, processes = 50, 2
	most := 0
	for now := second; now < 3600*second; now += second {
		for n := range uint64(perSecond) {
			id := now/second*perSecond + n
			name := fmt.Sprintf("%064x", id)
			podUID := fmt.Sprintf("pod-%d", id)
			x.CgroupMade(made(id, "/kubepods/pod"+podUID+"/"+name))
			for i := range uint32(processes) {
				pid := uint32(id)%3000*processes + i + 1
				p := startedIn(t, x, id, pid, now, fmt.Sprintf("/bin/%d", i))
				x.Ended(p, now+second/2)
			}
			names.set(podUID, &kube.Pod{UID: podUID, Name: podUID, Containers: []kube.Container{{ID: name}}})
			x.CgroupRemoved(removed(id, now+second/2))
			names.set(fmt.Sprintf("pod-%d", id-perSecond), nil)
		}
		x.Refresh(now)
		x.Expire(now)
		if now == 200*second {
			most = len(x.byPlace)
			require.Len(t, x.byPlace, len(x.byCgroup)+1)
		}
	}
	requireBounded(t, x)
	requireSound(t, x)
	assert.Equal(t, most, len(x.byPlace), "as many as after 200 s")
	assert.Equal(t, 91*perSecond, len(x.byCgroup))
	assert.Empty(t, x.awaited)
	x.Expire(10000 * second)
	assert.Len(t, x.byPlace, 1)
}

func TestMoreCgroupsThanAreRemembered(t *testing.T) {
	x, _, resolver := newNamedIndex(0)
	for id := range uint64(maxCgroups + 10) {
		x.CgroupMade(made(id+1, fmt.Sprintf("/docker/%064x", id)))
	}
	requireBounded(t, x)
	resolver.cgroups[1] = "/docker/" + idA
	assert.Equal(t, idA, startedIn(t, x, 1, 10, second, "/app").Resource.ContainerID, "it comes back")
}

// BenchmarkIdentityOfAnEvent is all that is asked of the index for an event, while some pod is waited for.
func BenchmarkIdentityOfAnEvent(b *testing.B) {
	x, names, _ := newNamedIndex(time.Second)
	names.set(uid, web(kube.Container{ID: idA, Name: "nginx"}))
	x.Refresh(1)
	x.CgroupMade(made(7, containerPath))
	x.CgroupMade(made(8, podPath+"x/"+idB))
	for pid := range uint32(1000) {
		startedIn(b, x, 7, pid+1, second, "/app")
	}
	header := &event.Header{CgroupId: 7, StartTime: second}
	b.ReportAllocs()
	for pid := uint32(0); b.Loop(); pid = (pid + 1) % 1000 {
		header.Pid = pid + 1
		isKnown := x.Awaiting() && !x.Awaits(header)
		isKnown = isKnown && x.ResourceOf(header, x.Find(header.Pid, header.StartTime)).Container != nil
		if !isKnown || x.KnowledgeOf(header) != Named {
			b.Fatal("not known")
		}
	}
}

func BenchmarkResourceOfAKnownProcess(b *testing.B) {
	x, names, _ := newNamedIndex(time.Second)
	names.set(uid, web(kube.Container{ID: idA, Name: "nginx"}))
	x.Refresh(1)
	x.CgroupMade(made(7, containerPath))
	for pid := range uint32(1000) {
		startedIn(b, x, 7, pid+1, second, "/app")
	}
	header := &event.Header{CgroupId: 7, StartTime: second}
	b.ReportAllocs()
	for pid := uint32(0); b.Loop(); pid = (pid + 1) % 1000 {
		header.Pid = pid + 1
		if x.ResourceOf(header, x.Find(header.Pid, header.StartTime)).Container == nil {
			b.Fatal("not known")
		}
	}
}

func BenchmarkResourceOfACgroup(b *testing.B) {
	x := newIndex(nil)
	for id := range uint64(500) {
		x.CgroupMade(made(id, fmt.Sprintf("/docker/%064x", id)))
	}
	header := &event.Header{}
	b.ReportAllocs()
	for id := uint64(0); b.Loop(); id = (id + 1) % 500 {
		header.CgroupId = id
		if x.ResourceOf(header, nil).ContainerID == "" {
			b.Fatal("not known")
		}
	}
}

// BenchmarkChange is what a change of one pod costs, where there are as many groups as 50 pods a second
// with a sandbox and a container each leave behind in the time that cgroups are remembered, and four processes in each. It may be any where more has
// changed than is kept.
func BenchmarkChange(b *testing.B) {
	const containers = 13_000
	x, names, _ := newNamedIndex(time.Second)
	for id := range uint64(containers) {
		pod := fmt.Sprintf("pod-%d", id/2)
		x.CgroupMade(made(id+1, fmt.Sprintf("/kubepods/pod%s/%064x", pod, id)))
		for n := range uint32(4) {
			startedIn(b, x, id+1, uint32(id)*4+n+1, second, "/app")
		}
	}
	x.Refresh(2 * second) // nobody waits any more
	pods := [2]*kube.Pod{{UID: "pod-7", Name: "pod-7"}, {UID: "pod-7", Name: "pod-7", Labels: []kube.Attribute{{Key: "a"}}}}
	for _, isAny := range []bool{false, true} {
		b.Run(fmt.Sprintf("any=%t", isAny), func(b *testing.B) {
			b.ReportAllocs()
			for n := 0; b.Loop(); n++ {
				names.set("pod-7", pods[n%2])
				names.any = isAny
				x.Refresh(3 * second)
			}
		})
	}
}

// While some pod is waited for, each record is looked at.
func BenchmarkAwaits(b *testing.B) {
	x, _, _ := newNamedIndex(time.Second)
	x.CgroupMade(made(7, containerPath))
	x.CgroupMade(made(8, "/docker/"+idB))
	header := &event.Header{CgroupId: 8}
	b.ReportAllocs()
	for b.Loop() {
		if x.Awaits(header) {
			b.Fatal("it does not")
		}
	}
}

func BenchmarkPlaceOf(b *testing.B) {
	path := "/kubepods.slice/kubepods-burstable.slice/kubepods-burstable-pod" + uidUnit + ".slice/cri-containerd-" + idA + ".scope"
	for b.Loop() {
		PlaceOf(path)
	}
}
