// Copyright The otelcol-tapio Authors
// SPDX-License-Identifier: Apache-2.0

package kube // import "github.com/tapio-io/otelcol-tapio/receiver/tapioebpfreceiver/internal/identity/kube"

import (
	"net/netip"
	"reflect"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"k8s.io/client-go/tools/cache"
)

const (
	// namesGrace is how long a pod or container that is gone keeps its name, for records under way.
	namesGrace = time.Minute
	// addressesGrace is shorter: an address may be given to another pod, on another node as well.
	addressesGrace = 5 * time.Second
	// maxDepartures are those of a minute with 90 pods a second that have two containers each. What is
	// more is forgotten early.
	maxDepartures = 16384

	// A node has up to some hundreds of pods. Beside them there may be as many departures as above.
	podBuckets = 512
)

// pods are those of this node. The informer's goroutine and the one that forgets write, under mu.
type pods struct {
	byUID       *table[string, *Pod]
	byStaticUID *table[string, *Pod] // of static pods: what the kubelet has in place of the UID
	byContainer *table[string, *podContainer]
	byAddress   *table[netip16, *Pod]
	node        atomic.Pointer[[]netip.Addr]
	nodeName    string
	changed     func()
	changes     changes // UIDs and container ids that have other names now, or have any at last

	mu        sync.Mutex
	now       func() time.Time
	names     departures
	addresses departures
}

// podContainer is a container and whose it is.
type podContainer struct {
	pod       *Pod
	container *Container
}

// netip16 is an address without zone, IPv4 mapped into IPv6.
type netip16 [16]byte

func newPods(nodeName string, changed func()) *pods {
	return &pods{
		byUID:       newTable[string, *Pod](podBuckets),
		byStaticUID: newTable[string, *Pod](1), // there are a few
		byContainer: newTable[string, *podContainer](podBuckets),
		byAddress:   newTable[netip16, *Pod](podBuckets),
		nodeName:    nodeName,
		changed:     changed,
		now:         time.Now,
		names:       departures{grace: namesGrace},
		addresses:   departures{grace: addressesGrace},
	}
}

// OnAdd implements cache.ResourceEventHandler.
func (p *pods) OnAdd(object any, _ bool) {
	if added, ok := object.(*observedPod); ok {
		p.update(nil, added)
	}
}

// OnUpdate implements cache.ResourceEventHandler. A pod that was made anew under its name while
// nobody watched, as a StatefulSet does, comes as an update, too.
func (p *pods) OnUpdate(before, after any) {
	old, _ := before.(*observedPod)
	changed, ok := after.(*observedPod)
	if !ok {
		return
	}
	if old != nil && old.UID != changed.UID {
		p.remove(old)
		old = nil
	}
	p.update(old, changed)
}

// OnDelete implements cache.ResourceEventHandler.
func (p *pods) OnDelete(object any) {
	if unseen, ok := object.(cache.DeletedFinalStateUnknown); ok {
		object = unseen.Obj
	}
	if removed, ok := object.(*observedPod); ok {
		p.remove(removed)
	}
}

// update takes in what is new. Most updates of a pod change nothing that is kept.
func (p *pods) update(old, pod *observedPod) {
	if old != nil && old.sameAs(pod) {
		pod.pod = old.pod // the tables have it
		return
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	defer p.changed()
	for _, name := range p.idsOf(pod) {
		name.table.set(name.id, pod.pod)
		p.changes.add(name.id)
	}
	for _, entry := range pod.containers() {
		p.byContainer.set(entry.container.ID, entry)
		p.changes.add(entry.container.ID)
	}
	p.updateAddresses(old, pod)
	if old != nil {
		p.departContainers(old, pod)
	}
}

func (p *pods) updateAddresses(old, pod *observedPod) {
	if !pod.over && len(pod.nodeAddresses) > 0 {
		p.node.Store(&pod.nodeAddresses) // told last, by any pod
	}
	held := pod.heldAddresses()
	for _, address := range held {
		p.byAddress.set(address.As16(), pod.pod)
	}
	if old == nil {
		return
	}
	for _, address := range old.heldAddresses() {
		if !slices.Contains(held, address) {
			p.departAddress(address, pod.uid())
		}
	}
}

// departContainers lets go of those that were restarted or are not in the pod any more.
func (p *pods) departContainers(old, pod *observedPod) {
	kept := map[string]bool{}
	for _, entry := range pod.containers() {
		kept[entry.container.ID] = true
	}
	for _, entry := range old.containers() {
		if id := entry.container.ID; !kept[id] {
			p.departContainer(id, pod.uid())
		}
	}
}

func (p *pods) remove(pod *observedPod) {
	p.mu.Lock()
	defer p.mu.Unlock()
	for _, name := range p.idsOf(pod) {
		gone := name.table.get(name.id)
		p.names.add(p.now(), func() {
			// it may be back: the list after a while without the API server had it again
			if name.table.get(name.id) == gone {
				name.table.remove(name.id)
			}
		})
	}
	for _, entry := range pod.containers() {
		p.departContainer(entry.container.ID, pod.uid())
	}
	for _, address := range pod.heldAddresses() {
		p.departAddress(address, pod.uid())
	}
}

func (p *pods) departContainer(id, uid string) {
	gone := p.byContainer.get(id)
	p.names.add(p.now(), func() {
		if gone != nil && gone.pod.UID == uid && p.byContainer.get(id) == gone {
			p.byContainer.remove(id)
		}
	})
}

func (p *pods) departAddress(address netip.Addr, uid string) {
	gone := p.byAddress.get(address.As16())
	p.addresses.add(p.now(), func() {
		if gone != nil && gone.UID == uid && p.byAddress.get(address.As16()) == gone {
			p.byAddress.remove(address.As16())
		}
	})
}

// forget removes those whose grace is over.
func (p *pods) forget() {
	p.mu.Lock()
	defer p.mu.Unlock()
	now := p.now()
	names, addresses := p.names.expire(now), p.addresses.expire(now)
	if names || addresses {
		p.changed()
	}
}

func (p *pods) peer(address netip.Addr) Peer {
	if pod := p.byAddress.get(address.As16()); pod != nil {
		return Peer{Kind: PeerPod, Name: pod.Name, Namespace: pod.Namespace, Pod: pod}
	}
	if node := p.node.Load(); node != nil && slices.Contains(*node, address) {
		return Peer{Kind: PeerNode, Name: p.nodeName}
	}
	return Peer{}
}

// uid is a string, unlike the field of the informer.
func (p *observedPod) uid() string { return p.pod.UID }

// podID is what a pod can have in cgroup paths, and where it is found by that.
type podID struct {
	table *table[string, *Pod]
	id    string
}

func (p *pods) idsOf(pod *observedPod) []podID {
	ids := []podID{{p.byUID, pod.pod.UID}}
	if pod.staticUID != "" && pod.staticUID != pod.pod.UID {
		ids = append(ids, podID{p.byStaticUID, pod.staticUID})
	}
	return ids
}

func (p *pods) get(uid string) *Pod {
	if pod := p.byUID.get(uid); pod != nil {
		return pod
	}
	return p.byStaticUID.get(uid)
}

// containers are those with an id.
func (p *observedPod) containers() (entries []*podContainer) {
	for _, list := range [][]Container{p.former, p.pod.Containers} {
		for i := range list {
			if list[i].ID != "" {
				entries = append(entries, &podContainer{pod: p.pod, container: &list[i]})
			}
		}
	}
	return entries
}

// heldAddresses are nobody else's.
func (p *observedPod) heldAddresses() []netip.Addr {
	if p.over || p.pod.HostNetwork {
		return nil
	}
	return p.pod.Addresses
}

func (p *observedPod) sameAs(other *observedPod) bool {
	return p.over == other.over && p.staticUID == other.staticUID &&
		slices.Equal(p.former, other.former) &&
		slices.Equal(p.nodeAddresses, other.nodeAddresses) &&
		reflect.DeepEqual(p.pod, other.pod)
}

// departures wait for their end. All have the same grace, so they end in the order that they came.
type departures struct {
	grace time.Duration
	queue []departure
}

type departure struct {
	end    time.Time
	forget func()
}

func (d *departures) add(now time.Time, forget func()) {
	if len(d.queue) >= maxDepartures {
		d.queue[0].forget()
		d.queue = d.queue[1:]
	}
	d.queue = append(d.queue, departure{now.Add(d.grace), forget})
}

// expire says whether any has ended.
func (d *departures) expire(now time.Time) bool {
	ended := 0
	for ended < len(d.queue) && !d.queue[ended].end.After(now) {
		d.queue[ended].forget()
		ended++
	}
	d.queue = slices.Delete(d.queue, 0, ended)
	return ended > 0
}
