// Copyright The otelcol-tapio Authors
// SPDX-License-Identifier: Apache-2.0

// Package kube knows, from the API server, the pods of this node and the addresses of the cluster's
// Services.
//
// A watcher's goroutines write, whoever asks gets immutable snapshots.
package kube // import "github.com/tapio-io/otelcol-tapio/receiver/tapioebpfreceiver/internal/identity/kube"

import "net/netip"

// Pod of this node. It is never changed: a pod that changes gets a new one.
type Pod struct {
	UID         string
	Name        string
	Namespace   string
	Node        string
	HostNetwork bool // its addresses are the node's
	Addresses   []netip.Addr
	Owners      []Owner // from the pod's controller up, as far as it can be told without watching it
	Labels      []Attribute
	Annotations []Attribute
	Service     Service // what the pod's annotations and labels say that its service is
	Containers  []Container
}

// Owner is a controller in the chain above a pod.
type Owner struct {
	Kind string // "ReplicaSet", "Deployment", "StatefulSet", "DaemonSet", "Job", "CronJob" or any other
	Name string
	UID  string // empty where only the name can be told
}

// Attribute is a label or an annotation that the configuration asks for.
type Attribute struct {
	Key   string // of the resource's attribute, as "k8s.pod.label.team"
	Value string
}

// Service is what OpenTelemetry's rules for Kubernetes find in a pod's annotations
// (resource.opentelemetry.io/…), and after those in its recommended labels; empty: nothing.
type Service struct {
	Name       string
	Namespace  string
	Version    string
	InstanceID string
	// Others are the annotations' attributes besides these.
	Others []Attribute
}

// Container of a pod, of any kind: init, ephemeral or ordinary.
type Container struct {
	ID       string // without the runtime's prefix; empty: not started yet
	Runtime  string // "containerd", "cri-o", "docker"; the ID's prefix; empty: not known
	Name     string
	Image    string // as the pod's specification names it
	ImageID  string // as the runtime resolved it; empty: not yet
	Restarts int
}

// Peer is who has an address.
type Peer struct {
	Kind      PeerKind
	Name      string
	Namespace string // empty for a node
	Pod       *Pod   // of PeerPod
}

// PeerKind is what has an address.
type PeerKind uint8

// The kinds of peers.
const (
	PeerNone PeerKind = iota
	PeerPod           // of this node
	PeerService
	PeerNode // this node
)
