// Copyright The otelcol-tapio Authors
// SPDX-License-Identifier: Apache-2.0

package kube // import "github.com/tapio-io/otelcol-tapio/receiver/tapioebpfreceiver/internal/identity/kube"

import (
	"net/netip"
	"slices"
	"strconv"
	"sync"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/client-go/tools/cache"
)

const (
	serviceBuckets = 1024 // a cluster may have 10,000 Services

	maxServiceAddresses = 64 // external ones can be as many as fit into the object
)

// observedService is all that is kept of a Service, or of an EndpointSlice. It is a runtime.Object, as those of
// lists have to be.
type observedService struct {
	metav1.ObjectMeta

	service   string // its name
	addresses []netip.Addr
	external  []netip.Addr // on its ports only
	ports     string       // as Peer has them
}

// GetObjectKind implements runtime.Object.
func (*observedService) GetObjectKind() schema.ObjectKind { return schema.EmptyObjectKind }

// DeepCopyObject implements runtime.Object. Nobody changes what it has.
func (o *observedService) DeepCopyObject() runtime.Object {
	copied := *o
	return &copied
}

// transformService implements cache.TransformFunc.
func transformService(object any) (any, error) {
	service, ok := object.(*corev1.Service)
	if !ok {
		return object, nil // it is called twice for some
	}
	return &observedService{
		ObjectMeta: keptMeta(&service.ObjectMeta), service: service.Name,
		addresses: serviceAddresses(append(slices.Clone(service.Spec.ClusterIPs), service.Spec.ClusterIP)),
		external:  serviceAddresses(externalTexts(service)), ports: portsOf(service),
	}, nil
}

// externalTexts are the addresses that it was told to have, and those of its load balancer, which may be those of the nodes.
func externalTexts(service *corev1.Service) []string {
	texts := slices.Clone(service.Spec.ExternalIPs)
	for _, ingress := range service.Status.LoadBalancer.Ingress {
		texts = append(texts, ingress.IP)
	}
	return texts
}

func portsOf(service *corev1.Service) string {
	ports := ","
	for i := range service.Spec.Ports {
		ports += strconv.Itoa(int(service.Spec.Ports[i].Port)) + ","
	}
	return ports
}

// serviceAddresses of these texts. A headless Service has none: its name resolves to those of its pods.
func serviceAddresses(texts []string) (addresses []netip.Addr) {
	for _, text := range texts {
		if len(addresses) < maxServiceAddresses {
			addresses = appendAddress(addresses, text)
		}
	}
	return addresses
}

// services are those of the cluster, by their own addresses or by those of their endpoints.
type services struct {
	// byAddress has several Services for some addresses: those with the same external one, or the same pods. No
	// name is certain then. A Service is there twice where two of its EndpointSlices have the address.
	byAddress *table[netip16, []Peer]
	changed   func()

	mu sync.Mutex
}

func newServices(changed func()) *services {
	return &services{byAddress: newTable[netip16, []Peer](serviceBuckets), changed: changed}
}

// OnAdd implements cache.ResourceEventHandler.
func (s *services) OnAdd(object any, _ bool) {
	if added, ok := object.(*observedService); ok {
		s.change(nil, added)
	}
}

// OnUpdate implements cache.ResourceEventHandler.
func (s *services) OnUpdate(before, after any) {
	old, _ := before.(*observedService)
	changed, _ := after.(*observedService)
	s.change(old, changed)
}

// OnDelete implements cache.ResourceEventHandler.
func (s *services) OnDelete(object any) {
	if unseen, ok := object.(cache.DeletedFinalStateUnknown); ok {
		object = unseen.Obj
	}
	if removed, ok := object.(*observedService); ok {
		s.change(removed, nil)
	}
}

// held is who an address names.
type held struct {
	address netip.Addr
	peer    Peer
}

// change moves addresses; either is nil for none.
func (s *services) change(old, service *observedService) {
	before, after := old.held(), service.held()
	if slices.Equal(before, after) {
		return
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, h := range before {
		if !slices.Contains(after, h) {
			s.release(h.address, h.peer)
		}
	}
	for _, h := range after {
		if !slices.Contains(before, h) {
			s.claim(h.address, h.peer)
		}
	}
	s.changed()
}

// Readers have the slices that were set before, so claim and release make new ones.

func (s *services) claim(address netip.Addr, peer Peer) {
	key := address.As16()
	s.byAddress.set(key, append(slices.Clone(s.byAddress.get(key)), peer))
}

func (s *services) release(address netip.Addr, peer Peer) {
	key := address.As16()
	others := slices.Clone(s.byAddress.get(key))
	if i := slices.Index(others, peer); i >= 0 {
		others = slices.Delete(others, i, i+1)
	}
	if len(others) == 0 {
		s.byAddress.remove(key)
		return
	}
	s.byAddress.set(key, others)
}

func (s *services) peer(address netip.Addr) Peer {
	peers := s.byAddress.get(address.As16())
	if len(peers) == 0 || slices.ContainsFunc(peers, func(p Peer) bool { return p != peers[0] }) {
		return Peer{}
	}
	return peers[0]
}

func (o *observedService) held() (all []held) {
	if o == nil {
		return nil
	}
	peer := Peer{Kind: PeerService, Name: o.service, Namespace: o.Namespace}
	for _, address := range o.addresses {
		all = append(all, held{address, peer})
	}
	peer.Ports = o.ports
	for _, address := range o.external {
		if !slices.Contains(o.addresses, address) {
			all = append(all, held{address, peer})
		}
	}
	return all
}
