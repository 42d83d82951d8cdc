// Copyright The otelcol-tapio Authors
// SPDX-License-Identifier: Apache-2.0

package simulator // import "github.com/tapio-io/otelcol-tapio/receiver/tapioebpfreceiver/internal/source/simulator"

import (
	"hash/fnv"
	"math/rand/v2"
	"net/netip"
)

// Pod is what a cluster would say of one of the simulated pods.
type Pod struct {
	UID, Name, Namespace string
	Address              netip.Addr
	Kind, Workload       string // of the controller: Deployment or StatefulSet, and its name
	ReplicaSet           string // of a Deployment
	OwnerUID             string // of the ReplicaSet, or the StatefulSet
	Container            string // its name
	ContainerID          string
	Image                string
	Restarts             int // of the container
}

// Service has an address in the simulated cluster.
type Service struct {
	Name, Namespace string
	Address         netip.Addr
}

// Pods of the simulated node.
func (s *Source) Pods() (found []Pod) {
	for _, p := range s.world.pods {
		found = append(found, podOf(p))
	}
	return found
}

func podOf(p *pod) Pod {
	known := Pod{
		UID: p.uid, Name: p.name, Namespace: p.namespace, Address: netip.AddrFrom16(p.network.address).Unmap(),
		Kind: p.service.kind, Workload: p.service.name, Container: p.service.name,
		OwnerUID:    ownerUID(p.service),
		ContainerID: p.container, Image: imageOf(p, p.service.name),
	}
	if known.Kind == "Deployment" {
		known.ReplicaSet = p.service.name + "-" + p.service.hash
	}
	return known
}

func imageOf(p *pod, name string) string {
	return "registry.example/" + p.namespace + "/" + name + ":1.4.2"
}

// Restarted is a pod whose container with the id was started while the source ran, with what is known of that one. It
// belongs to the goroutine that reads.
func (s *Source) Restarted(id string) (Pod, bool) {
	c := s.world.crashed.byID[id]
	if c == nil {
		return Pod{}, false
	}
	known := podOf(c.pod)
	known.Container, known.ContainerID, known.Restarts = sidecarName, id, c.restarts
	known.Image = imageOf(c.pod, sidecarName)
	return known, true
}

// ownerUID is always the same for a ReplicaSet or StatefulSet, and needs nothing of the world's randomness.
func ownerUID(of *service) string {
	name := fnv.New64a()
	name.Write([]byte(of.namespace + "/" + of.name + "/" + of.hash))
	own := world{random: rand.New(rand.NewPCG(name.Sum64(), 0))}
	return own.newUID()
}

// Services of the simulated cluster that have an address.
func (s *Source) Services() (found []Service) {
	for i := range template {
		of := s.world.services[template[i].name]
		if of.isHeadless() {
			continue
		}
		found = append(found, Service{Name: of.name, Namespace: of.namespace, Address: netip.AddrFrom16(of.clusterAddress).Unmap()})
	}
	return found
}
