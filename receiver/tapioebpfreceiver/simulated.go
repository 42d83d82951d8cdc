// Copyright The otelcol-tapio Authors
// SPDX-License-Identifier: Apache-2.0

package tapioebpfreceiver // import "github.com/tapio-io/otelcol-tapio/receiver/tapioebpfreceiver"

import (
	"net/netip"

	"github.com/tapio-io/otelcol-tapio/receiver/tapioebpfreceiver/internal/identity"
	"github.com/tapio-io/otelcol-tapio/receiver/tapioebpfreceiver/internal/identity/kube"
	"github.com/tapio-io/otelcol-tapio/receiver/tapioebpfreceiver/internal/source/simulator"
)

// simulatedNames are what an API server would say of the simulated cluster.
type simulatedNames struct {
	source     *simulator.Source
	pods       map[string]*kube.Pod
	containers map[string]*kube.Pod
	peers      map[netip.Addr]kube.Peer
	restarted  map[string]*kube.Pod // by the id of a container that was started meanwhile; those that were asked for
}

// maxRestarted are kept to be told again. Of the others it is found out again.
const maxRestarted = 4096

var _ identity.Names = (*simulatedNames)(nil)

func namesOf(s *simulator.Source) *simulatedNames {
	host, _ := s.HostName() // it has one
	names := &simulatedNames{
		source: s, pods: map[string]*kube.Pod{}, containers: map[string]*kube.Pod{}, peers: map[netip.Addr]kube.Peer{}, restarted: map[string]*kube.Pod{},
	}
	for _, of := range s.Services() {
		names.peers[of.Address] = kube.Peer{Kind: kube.PeerService, Name: of.Name, Namespace: of.Namespace}
	}
	for _, of := range s.Pods() {
		pod := podOf(&of, host)
		names.pods[of.UID], names.containers[of.ContainerID] = pod, pod
		names.peers[of.Address] = kube.Peer{Kind: kube.PeerPod, Name: of.Name, Namespace: of.Namespace, Pod: pod}
	}
	return names
}

// podOf is what is known of a pod with one of its containers.
func podOf(of *simulator.Pod, node string) *kube.Pod {
	pod := &kube.Pod{
		UID: of.UID, Name: of.Name, Namespace: of.Namespace, Node: node, Addresses: []netip.Addr{of.Address},
		Containers: []kube.Container{{ID: of.ContainerID, Runtime: "containerd", Name: of.Container, Image: of.Image, Restarts: of.Restarts}},
	}
	if of.ReplicaSet != "" {
		// of a Deployment there is no UID: it is known by the ReplicaSet's name only
		pod.Owners = append(pod.Owners, kube.Owner{Kind: "ReplicaSet", Name: of.ReplicaSet, UID: of.OwnerUID}, kube.Owner{Kind: of.Kind, Name: of.Workload})
	} else {
		pod.Owners = append(pod.Owners, kube.Owner{Kind: of.Kind, Name: of.Workload, UID: of.OwnerUID})
	}
	return pod
}

// Pod implements identity.Names.
func (n *simulatedNames) Pod(uid string) *kube.Pod { return n.pods[uid] }

// Container implements identity.Names.
func (n *simulatedNames) Container(id string) (*kube.Pod, *kube.Container) {
	pod := n.containers[id]
	if pod == nil {
		pod = n.restartedBy(id)
	}
	if pod == nil {
		return nil, nil
	}
	return pod, &pod.Containers[0]
}

func (n *simulatedNames) restartedBy(id string) *kube.Pod {
	if pod := n.restarted[id]; pod != nil {
		return pod
	}
	of, found := n.source.Restarted(id)
	if !found {
		return nil
	}
	if len(n.restarted) >= maxRestarted {
		clear(n.restarted)
	}
	pod := podOf(&of, n.pods[of.UID].Node)
	n.restarted[id] = pod
	return pod
}

// Peer implements identity.Names.
func (n *simulatedNames) Peer(address netip.Addr) kube.Peer { return n.peers[address.Unmap()] }

// Version implements identity.Names: nothing changes.
func (*simulatedNames) Version() uint64 { return 1 }

// Changes implements identity.Names.
func (*simulatedNames) Changes(func(string)) bool { return false }
