// Copyright The otelcol-tapio Authors
// SPDX-License-Identifier: Apache-2.0

package tapioebpfreceiver // import "github.com/tapio-io/otelcol-tapio/receiver/tapioebpfreceiver"

import (
	"net/netip"

	"github.com/tapio-io/otelcol-tapio/receiver/tapioebpfreceiver/internal/identity"
	"github.com/tapio-io/otelcol-tapio/receiver/tapioebpfreceiver/internal/identity/kube"
	"github.com/tapio-io/otelcol-tapio/receiver/tapioebpfreceiver/internal/source/recording"
	"github.com/tapio-io/otelcol-tapio/receiver/tapioebpfreceiver/internal/source/replay"
	"github.com/tapio-io/otelcol-tapio/receiver/tapioebpfreceiver/internal/source/simulator"
)

// names are nil where nobody was asked for any. What is recorded has its names in the recording.
func (r *tapioReceiver) names() identity.Names {
	known := r.knownNames()
	if recorder, ok := r.source.(*recording.Recorder); ok && known != nil {
		return newRecordedNames(known, recorder)
	}
	return known
}

func (r *tapioReceiver) knownNames() identity.Names {
	if r.kube != nil {
		return r.kube
	}
	switch from := recording.Unwrap(r.source).(type) {
	case *simulator.Source:
		return namesOf(from)
	case *replay.Source:
		if from.HasNames() {
			return newPlayedNames(from)
		}
	}
	return r.otherNames
}

// toldName is one answer, as a recording has it: who had the UID, the container's id, or the address that was
// asked for; the others are empty.
type toldName struct {
	UID       string          `json:"uid,omitempty"`
	Container string          `json:"container,omitempty"`
	Address   netip.Addr      `json:"address,omitzero"`
	Pod       *kube.Pod       `json:"pod,omitempty"`
	As        *kube.Container `json:"as,omitempty"` // which of the pod's containers has the id
	Peer      *kube.Peer      `json:"peer,omitempty"`
}

// maxRecordedNames bounds what is remembered to write only what is new. Beyond that it is written again.
const maxRecordedNames = 65536

// recordedNames write each answer that is not as it was before. They belong to the reader, as all who ask do.
type recordedNames struct {
	identity.Names
	recorder   *recording.Recorder
	pods       map[string]*kube.Pod
	containers map[string]podContainer
	peers      map[netip.Addr]kube.Peer
}

type podContainer struct {
	pod       *kube.Pod
	container *kube.Container
}

func newRecordedNames(known identity.Names, recorder *recording.Recorder) *recordedNames {
	return &recordedNames{
		Names: known, recorder: recorder,
		pods: map[string]*kube.Pod{}, containers: map[string]podContainer{}, peers: map[netip.Addr]kube.Peer{},
	}
}

// Pod implements identity.Names.
func (n *recordedNames) Pod(uid string) *kube.Pod {
	pod := n.Names.Pod(uid)
	if isNew(n.pods, uid, pod) {
		n.recorder.WriteNames(toldName{UID: uid, Pod: pod})
	}
	return pod
}

// Container implements identity.Names.
func (n *recordedNames) Container(id string) (*kube.Pod, *kube.Container) {
	pod, container := n.Names.Container(id)
	if isNew(n.containers, id, podContainer{pod, container}) {
		n.recorder.WriteNames(toldName{Container: id, Pod: pod, As: container})
	}
	return pod, container
}

// Peer implements identity.Names.
func (n *recordedNames) Peer(address netip.Addr) kube.Peer {
	peer := n.Names.Peer(address)
	if isNew(n.peers, address, peer) {
		n.recorder.WriteNames(toldName{Address: address, Peer: &peer})
	}
	return peer
}

// isNew says whether an answer is another than the last one. Nothing is news, too: where the last ones were
// forgotten, it may be that there was something.
func isNew[K, V comparable](last map[K]V, key K, answer V) bool {
	if known, ok := last[key]; ok && known == answer {
		return false
	}
	if len(last) >= maxRecordedNames {
		clear(last)
	}
	last[key] = answer
	return true
}

// playedNames are those of a recording, as far as it was played. They belong to the reader.
type playedNames struct {
	pods       map[string]*kube.Pod
	containers map[string]podContainer
	peers      map[netip.Addr]kube.Peer
	version    uint64
	changed    []string
}

func newPlayedNames(from *replay.Source) *playedNames {
	n := &playedNames{pods: map[string]*kube.Pod{}, containers: map[string]podContainer{}, peers: map[netip.Addr]kube.Peer{}}
	from.OnNames(n.learn)
	return n
}

func (n *playedNames) learn(frame recording.Frame) error {
	var told toldName
	if err := frame.JSON(&told); err != nil {
		return err
	}
	n.version++
	switch {
	case told.UID != "":
		keep(n.pods, told.UID, told.Pod)
		n.changed = append(n.changed, told.UID)
	case told.Container != "":
		keep(n.containers, told.Container, podContainer{told.Pod, told.As})
		n.changed = append(n.changed, told.Container)
	case told.Peer != nil:
		keep(n.peers, told.Address, *told.Peer)
	}
	return nil
}

// keep forgets what is not known any more.
func keep[K, V comparable](known map[K]V, key K, value V) {
	var none V
	if value == none {
		delete(known, key)
		return
	}
	known[key] = value
}

// Pod implements identity.Names.
func (n *playedNames) Pod(uid string) *kube.Pod { return n.pods[uid] }

// Container implements identity.Names.
func (n *playedNames) Container(id string) (*kube.Pod, *kube.Container) {
	found := n.containers[id]
	return found.pod, found.container
}

// Peer implements identity.Names.
func (n *playedNames) Peer(address netip.Addr) kube.Peer { return n.peers[address] }

// Version implements identity.Names.
func (n *playedNames) Version() uint64 { return n.version }

// Changes implements identity.Names.
func (n *playedNames) Changes(visit func(id string)) (isAny bool) {
	for _, id := range n.changed {
		visit(id)
	}
	n.changed = n.changed[:0]
	return false
}
