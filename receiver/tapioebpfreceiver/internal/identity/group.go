// Copyright The otelcol-tapio Authors
// SPDX-License-Identifier: Apache-2.0

package identity // import "github.com/tapio-io/otelcol-tapio/receiver/tapioebpfreceiver/internal/identity"

import (
	"cmp"
	"net/netip"
	"path"
	"reflect"
	"slices"
	"strings"

	"github.com/tapio-io/otelcol-tapio/receiver/tapioebpfreceiver/internal/event"
	"github.com/tapio-io/otelcol-tapio/receiver/tapioebpfreceiver/internal/identity/kube"
	"github.com/tapio-io/otelcol-tapio/receiver/tapioebpfreceiver/internal/source"
)

// Names are what is known of Kubernetes, as immutable snapshots. *kube.Watcher implements it.
type Names interface {
	// Pod is nil if it is not known yet.
	Pod(uid string) *kube.Pod
	// Container is nil, nil if it is not known yet.
	Container(id string) (*kube.Pod, *kube.Container)
	// Peer is of the kind kube.PeerNone if nothing is known of the address.
	Peer(address netip.Addr) kube.Peer
	// Version changes with every change of what is known.
	Version() uint64
	// Changes visits the UIDs of pods and the ids of containers that have other names than when it was
	// called last. It returns true, and visits nothing, where it may be any.
	Changes(visit func(id string)) (isAny bool)
}

// Resolver is asked for what no record has told. A source.Source is one.
type Resolver interface {
	Process(pid uint32) (source.Process, bool)
	Cgroup(id uint64, pid uint32) (path string, ok bool)
}

// Owner is whom processes belong to: a container, a pod, a unit of systemd, or nobody in particular.
type Owner struct {
	Place
	Pod       *kube.Pod       // nil: not known, or there is none
	Container *kube.Container // nil: likewise
}

// isPods says that its names come from Kubernetes, sooner or later.
func (o *Owner) isPods() bool { return o.PodUID != "" }

// isContainers says that it is more than a part of the node.
func (o *Owner) isContainers() bool { return o.ContainerID != "" || o.PodUID != "" }

// IsHost says that it is the node's own: in no container, as far as is known.
func (o *Owner) IsHost() bool { return !o.isContainers() }

func (o *Owner) isNamed() bool {
	return o.Pod != nil && (o.Container != nil || o.ContainerID == "")
}

// Knowledge is what is known of the pod that a record is of.
type Knowledge uint8

// What can be known of a pod, from the least to the most.
const (
	NoPod    Knowledge = iota // there is none to know
	Unnamed                   // only what the cgroup's path says
	PodNamed                  // the pod's names, but not which of its containers it is
	Named
)

func (o *Owner) knowledge() Knowledge {
	switch {
	case !o.isPods():
		return NoPod
	case o.Pod == nil:
		return Unnamed
	case o.isNamed():
		return Named
	default:
		return PodNamed
	}
}

// Resource is what records have in common: one owner, one executable. It is never changed: an owner whose
// names become known gets new ones.
type Resource struct {
	Owner
	Key  ResourceKey
	Name string // the executable's file name; empty: not known
	Path string // empty: not known
	// Cluster is what records are of that are no process's; nil: they are.
	Cluster *Cluster

	line *lineage
}

// Cluster is a service that is asked over the network.
type Cluster struct {
	Service   string
	Endpoints []string
}

// OfCluster is the resource of a cluster's records.
func OfCluster(service string, endpoints []string) *Resource {
	return &Resource{
		Key:     ResourceKey{owner: service + " " + strings.Join(endpoints, ",")},
		Cluster: &Cluster{Service: service, Endpoints: endpoints},
		line:    &lineage{},
	}
}

// lineage is what the resources of one owner and executable have in common, through all changes of its names.
type lineage struct {
	latest *Resource
	alive  int // processes that run the executable now
}

// Alive is how many processes run the executable now. They count for the resource with the latest names.
func (r *Resource) Alive() int {
	if r.line.latest != r {
		return 0
	}
	return r.line.alive
}

// ResourceKey is the same when a resource is forgotten and made anew. It differs where the attributes
// do, before and after names became known: then a series of metrics ends and another begins.
type ResourceKey struct {
	owner      string
	path       string
	generation uint32
}

// Compare gives keys an order that stays the same.
func (k ResourceKey) Compare(other ResourceKey) int {
	return cmp.Or(strings.Compare(k.owner, other.owner), strings.Compare(k.path, other.path), cmp.Compare(k.generation, other.generation))
}

// group is an owner with all that is its own. Cgroups of the same place share it.
type group struct {
	Owner
	key        string
	generation uint32
	unnamed    *Resource            // of the executable that is not known
	resources  map[string]*Resource // by executable
	cgroups    int                  // that lead here
	deadline   uint64               // CLOCK_BOOTTIME, ns: so long its records wait for names
	awaits     bool                 // they do so now
	// what the names were made of, to see at once that nothing is new
	pod       *kube.Pod
	container *kube.Container
}

func newGroup(place Place) *group {
	g := &group{Owner: Owner{Place: place}}
	switch {
	case place.ContainerID != "":
		g.key = place.ContainerID
	case place.PodUID != "":
		g.key = place.PodUID
	default:
		g.key = place.Unit
	}
	g.renew()
	return g
}

// renew begins with new resources, and returns those before.
func (g *group) renew() map[string]*Resource {
	old := g.resources
	g.resources = map[string]*Resource{}
	g.unnamed = g.make("")
	g.resources[""] = g.unnamed
	return old
}

func (g *group) make(executable string) *Resource {
	r := &Resource{Owner: g.Owner, Path: executable, Key: ResourceKey{owner: g.key, path: executable, generation: g.generation}}
	if executable != "" {
		r.Name = path.Base(executable)
	}
	r.line = &lineage{latest: r}
	return r
}

// counted are the resources that the index counts.
func (g *group) counted() int { return len(g.resources) - 1 }

func (g *group) alive() bool {
	for _, r := range g.resources {
		if r.Alive() > 0 {
			return true
		}
	}
	return false
}

const (
	maxCgroups = 65536
	minGroups  = 16384 // more are looked through for those that nothing leads to any more
)

// removedCgroup is one that may still be in records under way.
type removedCgroup struct {
	id uint64
	at uint64 // CLOCK_BOOTTIME, ns
}

// groups know whose a cgroup is.
type groups struct {
	hasJoined bool // a v1 hierarchy has said something
	resolver  Resolver
	names     Names  // nil: no Kubernetes
	wait      uint64 // ns
	now       uint64 // CLOCK_BOOTTIME, ns, of the last turn
	version   uint64

	byCgroup map[uint64]*group
	notFound map[uint64]uint64 // when it was asked for, CLOCK_BOOTTIME, ns
	byPlace  map[Place]*group
	byID     map[string][]*group // those that names can be known of, by their pod's UID and by their container's id
	nobody   *group
	sweepAt  int             // groups
	removed  []removedCgroup // oldest first
	awaited  []*group
}

func newGroups(options Options) groups {
	nobody := newGroup(Place{})
	return groups{
		resolver: options.Resolver, names: options.Names, wait: uint64(max(options.Wait, 0)),
		byCgroup: map[uint64]*group{}, notFound: map[uint64]uint64{}, byPlace: map[Place]*group{{}: nobody}, byID: map[string][]*group{}, nobody: nobody, sweepAt: minGroups,
	}
}

// LoadCgroups adds cgroups that are older than the source.
func (x *Index) LoadCgroups(cgroups []source.Cgroup) {
	for _, c := range cgroups {
		x.learn(c.ID, c.Path)
	}
}

// CgroupMade notes a cgroup.
func (x *Index) CgroupMade(e *event.CgroupChange) {
	if len(e.Path) > 0 { // else it is asked for when it is needed
		x.learn(e.Header.CgroupId, string(e.Path))
	}
}

// CgroupRemoved notes its end. It is still known for a while: what its processes left behind, such as
// connections, may end later.
func (x *Index) CgroupRemoved(e *event.CgroupChange) {
	if _, ok := x.byCgroup[e.Header.CgroupId]; ok {
		x.removed = append(x.removed, removedCgroup{e.Header.CgroupId, e.Header.Time})
	}
}

// CgroupJoined notes that a process was moved to a cgroup. Where that is one of a v1 hierarchy, the
// process alone is its own: ids in records are of the v2 hierarchy.
func (x *Index) CgroupJoined(e *event.CgroupChange) {
	p := x.Find(e.Header.Pid, e.Header.StartTime)
	if g := x.byCgroup[e.Header.CgroupId]; e.Hierarchy == 0 && (g == nil || g == x.nobody) {
		x.CgroupMade(e)
	}
	if p == nil {
		return
	}
	if p.exitedAt != 0 && (!p.isGone || x.live[p.PID] != nil) {
		return // it has ended, or another has its pid by now
	}
	if p.exitedAt != 0 {
		p = x.revive(p)
	}
	p.cgroup = e.Header.CgroupId
	if e.Hierarchy != 0 && len(e.Path) > 0 {
		x.join(p, PlaceOf(string(e.Path)))
	}
	x.settle(p, p.Resource.Path)
}

// join notes the place of a process by a v1 hierarchy. There are several, and not all need to know of a
// container.
func (x *Index) join(p *Process, place Place) {
	if place == (Place{}) || p.joined != nil && p.joined.isContainers() && place.Unit != "" {
		return
	}
	p.joined, x.hasJoined = x.groupAt(place), true
}

// learn whose a cgroup is.
func (x *Index) learn(id uint64, path string) *group {
	g := x.groupAt(PlaceOf(path))
	if old := x.byCgroup[id]; old != nil {
		old.cgroups--
	} else if len(x.byCgroup) >= maxCgroups {
		x.forgetCgroups()
	}
	x.byCgroup[id] = g
	g.cgroups++
	return g
}

// forgetCgroups begins the cache anew. What is still in use comes back by being asked for.
func (x *Index) forgetCgroups() {
	for _, g := range x.byCgroup {
		g.cgroups = 0
	}
	clear(x.byCgroup)
	x.removed = nil
}

func (x *Index) groupAt(place Place) *group {
	place.Unit = validUTF8(place.Unit)
	if g, ok := x.byPlace[place]; ok {
		return g
	}
	if len(x.byPlace) >= x.sweepAt {
		x.dropUnusedGroups()
	}
	g := newGroup(place)
	x.byPlace[place] = g
	if x.names != nil && g.isContainers() {
		x.addByID(g.PodUID, g)
		x.addByID(g.ContainerID, g)
		x.await(g)
	}
	return g
}

func (x *Index) dropUnusedGroups() {
	for place, g := range x.byPlace {
		if g != x.nobody && g.cgroups == 0 && !g.alive() {
			x.forgetGroup(place, g)
		}
	}
	x.sweepAt = max(minGroups, 2*len(x.byPlace)) // where all are in use, not again at the next one
}

func (x *Index) forgetGroup(place Place, g *group) {
	delete(x.byPlace, place)
	x.dropByID(g.PodUID, g)
	x.dropByID(g.ContainerID, g)
	x.resources -= g.counted()
}

func (x *Index) addByID(id string, g *group) {
	if id != "" {
		x.byID[id] = append(x.byID[id], g)
	}
}

func (x *Index) dropByID(id string, g *group) {
	others := slices.DeleteFunc(x.byID[id], func(other *group) bool { return other == g })
	if len(others) == 0 {
		delete(x.byID, id)
		return
	}
	x.byID[id] = others
}

// retryAfter is how long a cgroup that was not found is not asked for again, ns. Another process may
// be what it is found by.
const retryAfter = 1e9

// groupOf a cgroup. It asks the source for one that it does not know; a process in it is what the answer
// is found by.
func (x *Index) groupOf(cgroup uint64, pid uint32) *group {
	if g, ok := x.byCgroup[cgroup]; ok {
		return g
	}
	if cgroup == 0 {
		return x.nobody
	}
	if pid == 0 {
		return x.nobody // a record to come may know one
	}
	if at, ok := x.notFound[cgroup]; ok && x.now < at+retryAfter {
		return x.nobody
	}
	path, ok := x.resolver.Cgroup(cgroup, pid)
	if !ok {
		if len(x.notFound) >= maxCgroups {
			clear(x.notFound)
		}
		x.notFound[cgroup] = x.now
		return x.nobody
	}
	delete(x.notFound, cgroup)
	return x.learn(cgroup, path)
}

// settle gives a process the resource of its group and executable.
func (x *Index) settle(p *Process, executable string) {
	g := x.groupOf(p.cgroup, p.PID)
	if p.joined != nil {
		p.joined = x.groupAt(p.joined.Place) // it may have been forgotten: nothing else keeps it
		if !g.isContainers() && (p.joined.isContainers() || g.Unit == "") {
			g = p.joined
		}
	}
	p.group = g
	x.setResource(p, x.resource(g, executable))
}

// Moved notes the cgroup that a process is in by one of its own records. Service managers move
// processes also after their exec.
func (x *Index) Moved(p *Process, cgroup uint64) {
	if cgroup == 0 || cgroup == p.cgroup || p.exitedAt != 0 {
		return
	}
	p.cgroup = cgroup
	x.settle(p, p.Resource.Path)
}

// ResourceOf a record: its process's, else that of its cgroup.
func (x *Index) ResourceOf(header *event.Header, p *Process) *Resource {
	if p != nil {
		return p.Resource
	}
	return x.groupOf(header.CgroupId, header.Pid).unnamed
}

// expireCgroups forgets those that were removed long ago.
func (x *Index) expireCgroups(now uint64) {
	n := 0
	for ; n < len(x.removed) && x.removed[n].at+retention < now; n++ {
		id := x.removed[n].id
		g, ok := x.byCgroup[id]
		if !ok {
			continue
		}
		delete(x.byCgroup, id)
		if g.cgroups--; g.cgroups == 0 && g != x.nobody && !g.alive() {
			x.forgetGroup(g.Place, g)
		}
	}
	if x.removed = x.removed[n:]; len(x.removed) == 0 {
		x.removed = nil // let go of the array
	}
}

// --- names -----------------------------------------------------------------------------------------

// await has the records of a group wait until its names are known, but not for longer than they may.
// A container outside of Kubernetes has no names to wait for; if it is one of a pod all the same, it gets
// them when they come.
func (x *Index) await(g *group) {
	x.rename(g)
	if g.isNamed() || !g.isPods() || x.wait == 0 {
		return
	}
	g.deadline, g.awaits = x.now+x.wait, true
	x.awaited = append(x.awaited, g)
}

// Refresh takes over what has become known since, and ends waits that have lasted long enough. It
// returns whether a wait has ended. now is CLOCK_BOOTTIME, ns.
func (x *Index) Refresh(now uint64) (ended bool) {
	x.now = now
	if x.names == nil {
		return false
	}
	if version := x.names.Version(); version != x.version {
		x.version = version
		if x.names.Changes(x.renameByID) {
			x.renameAll()
		}
	}
	kept := x.awaited[:0]
	for _, g := range x.awaited {
		if g.awaits = g.awaits && !g.isNamed() && now < g.deadline; g.awaits {
			kept = append(kept, g)
		} else {
			ended = true
		}
	}
	clear(x.awaited[len(kept):])
	x.awaited = kept
	return ended
}

func (x *Index) renameByID(id string) {
	for _, g := range x.byID[id] {
		x.rename(g)
	}
}

func (x *Index) renameAll() {
	for _, g := range x.byPlace {
		if g.isContainers() {
			x.rename(g)
		}
	}
}

// follow takes over the resource with the latest names. It is done for each process when it is found: to visit
// all of them whenever a name changes would cost more.
func (p *Process) follow() *Process {
	p.Resource = p.Resource.line.latest
	return p
}

// rename looks a group's names up. Those of a pod or container that is not known any more stay: there may
// be records under way.
func (x *Index) rename(g *group) {
	pod, container := x.lookUp(g)
	if pod == nil || pod == g.pod && container == g.container {
		return
	}
	g.pod, g.container = pod, container
	now := Owner{Place: g.Place, Pod: pod, Container: container}
	if container == nil {
		now.Container = g.Container
	}
	if sameNames(&g.Owner, &now) {
		return
	}
	x.resources -= g.counted()
	g.Owner = now
	g.generation++
	for executable, old := range g.renew() {
		r := x.resource(g, executable)
		r.line = old.line
		r.line.latest = r
	}
}

func (x *Index) lookUp(g *group) (*kube.Pod, *kube.Container) {
	if g.ContainerID != "" {
		if pod, container := x.names.Container(g.ContainerID); pod != nil {
			return pod, container
		}
	}
	if g.PodUID == "" {
		return nil, nil
	}
	return x.names.Pod(g.PodUID), nil
}

// sameNames says that nothing has changed of what is shown.
func sameNames(a, b *Owner) bool {
	if a.Pod == nil || b.Pod == nil {
		return a.Pod == b.Pod
	}
	podA, podB := *a.Pod, *b.Pod
	podA.Addresses, podA.Containers = nil, nil
	podB.Addresses, podB.Containers = nil, nil
	return reflect.DeepEqual(podA, podB) && reflect.DeepEqual(a.Container, b.Container)
}

// Awaiting says whether there is a group whose records have to wait.
func (x *Index) Awaiting() bool { return len(x.awaited) > 0 }

// Awaits says whether a record has to wait for the names of its pod.
func (x *Index) Awaits(header *event.Header) bool { return x.groupOfRecord(header).awaits }

// GiveUp ends the wait for a record's pod.
func (x *Index) GiveUp(header *event.Header) { x.groupOfRecord(header).awaits = false }

// KnowledgeOf the pod that a record is of.
func (x *Index) KnowledgeOf(header *event.Header) Knowledge {
	return x.groupOfRecord(header).knowledge()
}

// groupOfRecord is the process's where the cgroup says nothing of a container, as with cgroup v1.
func (x *Index) groupOfRecord(header *event.Header) *group {
	g := x.groupOf(header.CgroupId, header.Pid)
	if g.isContainers() {
		return g
	}
	key := KeyOf(header.Pid, header.StartTime)
	p := x.live[header.Pid]
	if p == nil || p.Key != key {
		p = x.ended[key]
	}
	if p != nil && p.group != nil {
		return p.group
	}
	return g
}

// Peer is who has an address.
func (x *Index) Peer(address netip.Addr) kube.Peer {
	if x.names == nil {
		return kube.Peer{}
	}
	return x.names.Peer(address)
}

// Version of the names; it changes with every change of what is known.
func (x *Index) Version() uint64 { return x.version }

// HasNames says whether there is Kubernetes at all.
func (x *Index) HasNames() bool { return x.names != nil }
