// Copyright The otelcol-tapio Authors
// SPDX-License-Identifier: Apache-2.0

package translate // import "github.com/tapio-io/otelcol-tapio/receiver/tapioebpfreceiver/internal/translate"

import (
	"strings"

	"go.opentelemetry.io/collector/pdata/pcommon"

	"github.com/tapio-io/otelcol-tapio/receiver/tapioebpfreceiver/internal/event"
	"github.com/tapio-io/otelcol-tapio/receiver/tapioebpfreceiver/internal/identity"
	"github.com/tapio-io/otelcol-tapio/receiver/tapioebpfreceiver/internal/identity/kube"
)

// osLinux is the only one whose kernel's records there are, also where they are played.
const osLinux = "linux"

// resource describes one. What is not known is absent.
func (d Describe) resource(to pcommon.Resource, r *identity.Resource) {
	attributes := to.Attributes()
	attributes.EnsureCapacity(resourceAttributes(r))
	attributes.PutStr(attrSource, d.Source)
	putKnown(attributes, attrReplaySource, d.ReplaySource)
	attributes.PutStr(attrHostName, d.HostName)
	if r.Cluster != nil {
		attributes.PutStr(attrServiceName, r.Cluster.Service)
		putStrings(attributes, attrEtcdEndpoints, r.Cluster.Endpoints)
		return
	}
	attributes.PutStr(attrOSType, osLinux)
	putKnown(attributes, attrK8sNodeName, d.NodeName)
	putKnown(attributes, attrServiceName, serviceName(r))
	putKnown(attributes, attrProcessExecutableName, r.Name)
	putKnown(attributes, attrProcessExecutablePath, r.Path)
	putKnown(attributes, attrSystemdUnit, r.Unit)
	putContainer(attributes, &r.Owner)
	if r.Pod != nil {
		putPod(attributes, r.Pod, r.Container)
	} else {
		putKnown(attributes, attrK8sPodUID, r.PodUID)
	}
}

func resourceAttributes(r *identity.Resource) int {
	if r.ContainerID == "" && r.PodUID == "" {
		return 9
	}
	return 25
}

func putKnown(attributes pcommon.Map, key, value string) {
	if value != "" {
		attributes.PutStr(key, value)
	}
}

// serviceName is the pod's, else the executable's: a unit's name says how it is run, not what it is.
func serviceName(r *identity.Resource) string {
	if r.Pod != nil {
		return serviceOfPod(r.Pod)
	}
	return r.Name
}

// workloads are the kinds of controllers that the conventions have names for, in the order in which the
// service is named after them.
var workloads = []struct{ kind, name, uid string }{
	{"Deployment", attrK8sDeploymentName, attrK8sDeploymentUID},
	{"ReplicaSet", attrK8sReplicaSetName, attrK8sReplicaSetUID},
	{"StatefulSet", attrK8sStatefulSetName, attrK8sStatefulSetUID},
	{"DaemonSet", attrK8sDaemonSetName, attrK8sDaemonSetUID},
	{"CronJob", attrK8sCronJobName, attrK8sCronJobUID},
	{"Job", attrK8sJobName, attrK8sJobUID},
}

// serviceOfPod follows OpenTelemetry's rules for Kubernetes: annotation, labels, workload, the pod's own
// name.
func serviceOfPod(pod *kube.Pod) string {
	if pod.Service.Name != "" {
		return pod.Service.Name
	}
	for i := range workloads {
		if owner := ownerOfKind(pod, workloads[i].kind); owner != nil {
			return owner.Name
		}
	}
	return pod.Name
}

// namespaceOfPod is that of its service.
func namespaceOfPod(pod *kube.Pod) string {
	if pod.Service.Namespace != "" {
		return pod.Service.Namespace
	}
	return pod.Namespace
}

func ownerOfKind(pod *kube.Pod, kind string) *kube.Owner {
	for i := range pod.Owners {
		if pod.Owners[i].Kind == kind {
			return &pod.Owners[i]
		}
	}
	return nil
}

func putContainer(attributes pcommon.Map, owner *identity.Owner) {
	runtime := owner.Runtime
	if owner.Container != nil && owner.Container.Runtime != "" {
		runtime = owner.Container.Runtime
	}
	putKnown(attributes, attrContainerID, owner.ContainerID)
	putKnown(attributes, attrContainerRuntimeName, runtime)
	if owner.Container == nil {
		return
	}
	name, tag, _ := splitImage(owner.Container.Image)
	putKnown(attributes, attrContainerImageName, name)
	if tag != "" {
		putStrings(attributes, attrContainerImageTags, []string{tag})
	}
	// cri-dockerd says where it has it from
	id := strings.TrimPrefix(strings.TrimPrefix(owner.Container.ImageID, "docker-pullable://"), "docker://")
	if strings.Contains(id, "@") {
		putStrings(attributes, attrContainerImageRepoDigests, []string{id})
	} else {
		putKnown(attributes, attrContainerImageID, id)
	}
}

// putPod puts what annotations ask for last: it does not replace what is known for certain.
func putPod(attributes pcommon.Map, pod *kube.Pod, container *kube.Container) {
	putKnown(attributes, attrK8sPodUID, pod.UID)
	putKnown(attributes, attrK8sPodName, pod.Name)
	putKnown(attributes, attrK8sNamespaceName, pod.Namespace)
	putKnown(attributes, attrK8sNodeName, pod.Node)
	for i := range workloads {
		if owner := ownerOfKind(pod, workloads[i].kind); owner != nil && !owner.IsForeign {
			putKnown(attributes, workloads[i].name, owner.Name)
			putKnown(attributes, workloads[i].uid, owner.UID)
		}
	}
	if container != nil {
		putKnown(attributes, attrK8sContainerName, container.Name)
		attributes.PutInt(attrK8sContainerRestartCount, int64(container.Restarts))
	}
	putKnown(attributes, attrServiceNamespace, namespaceOfPod(pod))
	putKnown(attributes, attrServiceVersion, serviceVersion(pod, container))
	putKnown(attributes, attrServiceInstanceID, serviceInstance(pod, container))
	for _, more := range [][]kube.Attribute{pod.Labels, pod.Annotations, pod.Service.Others} {
		putMissing(attributes, more)
	}
}

func putMissing(attributes pcommon.Map, more []kube.Attribute) {
	for _, a := range more {
		if _, ok := attributes.Get(a.Key); !ok {
			attributes.PutStr(a.Key, a.Value)
		}
	}
}

// serviceVersion is the image's, where annotations and labels say nothing: tag, digest, or both.
func serviceVersion(pod *kube.Pod, container *kube.Container) string {
	if pod.Service.Version != "" || container == nil {
		return pod.Service.Version
	}
	_, tag, digest := splitImage(container.Image)
	if tag != "" && digest != "" {
		return tag + "@" + digest
	}
	return tag + digest
}

// serviceInstance is told of a container only: all of a pod's would have the same.
func serviceInstance(pod *kube.Pod, container *kube.Container) string {
	if pod.Service.InstanceID != "" || container == nil || container.Name == "" {
		return pod.Service.InstanceID
	}
	return pod.Namespace + "." + pod.Name + "." + container.Name
}

// splitImage takes a reference such as registry:5000/team/app:1.2@sha256:… apart. A tag or digest that it
// has not is empty.
func splitImage(image string) (name, tag, digest string) {
	name, digest, _ = strings.Cut(image, "@")
	if i := strings.LastIndexByte(name, ':'); i > strings.LastIndexByte(name, '/') {
		name, tag = name[:i], name[i+1:]
	}
	return name, tag, digest
}

// --- peers -----------------------------------------------------------------------------------------

// peerNames remember who has an address, until more is known.
type peerNames struct {
	index   *identity.Index
	version uint64
	known   map[[16]byte]kube.Peer
	// The one that was asked for last: it is asked for again.
	last        kube.Peer
	lastAddress [16]byte
}

func newPeerNames(index *identity.Index) peerNames {
	return peerNames{index: index, known: map[[16]byte]kube.Peer{}}
}

func (n *peerNames) of(address [16]byte) kube.Peer {
	if version := n.index.Version(); version != n.version || len(n.known) >= maxAddresses {
		n.version = version
		clear(n.known)
		n.last, n.lastAddress = kube.Peer{}, [16]byte{} // which is nobody's
	}
	if address == n.lastAddress {
		return n.last
	}
	peer, ok := n.known[address]
	if !ok {
		peer = n.index.Peer(event.Address(address))
		n.known[address] = peer
	}
	n.last, n.lastAddress = peer, address
	return peer
}

// attributes is how many put adds, at the most.
func (n *peerNames) attributes(address [16]byte) int {
	if !n.index.HasNames() {
		return 0
	}
	switch n.of(address).Kind {
	case kube.PeerPod:
		return 4
	case kube.PeerService:
		return 2
	case kube.PeerNode:
		return 1
	default:
		return 0
	}
}

// put says who has an address, beside the address itself and its port.
func (n *peerNames) put(attributes *attributeList, address [16]byte, port uint16) {
	if !n.index.HasNames() {
		return
	}
	peer := n.of(address)
	if !peer.HasPort(port) {
		return
	}
	switch peer.Kind {
	case kube.PeerPod:
		attributes.PutStr(attrPeerPodName, peer.Name)
		attributes.PutStr(attrPeerNamespaceName, peer.Namespace)
		if peer.Pod != nil {
			attributes.putKnown(attrServicePeerName, serviceOfPod(peer.Pod))
			attributes.putKnown(attrServicePeerNamespace, namespaceOfPod(peer.Pod))
		}
	case kube.PeerService:
		attributes.PutStr(attrPeerServiceName, peer.Name)
		attributes.PutStr(attrPeerNamespaceName, peer.Namespace)
	case kube.PeerNode:
		attributes.PutStr(attrPeerNodeName, peer.Name)
	}
}
