// Copyright The otelcol-tapio Authors
// SPDX-License-Identifier: Apache-2.0

// Package kube knows, from the API server, the pods of this node and the addresses of the cluster's
// Services.
//
// A watcher's goroutines write, whoever asks gets immutable snapshots.
package kube // import "github.com/tapio-io/otelcol-tapio/receiver/tapioebpfreceiver/internal/identity/kube"

import (
	"net/netip"
	"strconv"
	"strings"
)

// Pod of this node. It is never changed: a pod that changes gets a new one. Recordings have it as JSON.
type Pod struct {
	UID         string       `json:"uid"`
	Name        string       `json:"name"`
	Namespace   string       `json:"namespace"`
	Node        string       `json:"node"`
	HostNetwork bool         `json:"host_network,omitempty"` // its addresses are the node's
	Addresses   []netip.Addr `json:"addresses,omitempty"`
	Owners      []Owner      `json:"owners,omitempty"` // from the pod's controller up, as far as it can be told without watching it
	Labels      []Attribute  `json:"labels,omitempty"`
	Annotations []Attribute  `json:"annotations,omitempty"`
	Service     Service      `json:"service,omitzero"` // what the pod's annotations and labels say that its service is
	Containers  []Container  `json:"containers,omitempty"`
}

// Owner is a controller in the chain above a pod.
type Owner struct {
	Kind string `json:"kind"` // "ReplicaSet", "Deployment", "StatefulSet", "DaemonSet", "Job", "CronJob" or any other
	Name string `json:"name"`
	UID  string `json:"uid,omitempty"` // empty where only the name can be told
	// IsForeign: it is of no API group of Kubernetes' own workloads, whatever its kind is called.
	IsForeign bool `json:"is_foreign,omitempty"`
}

// Attribute is a label or an annotation that the configuration asks for.
type Attribute struct {
	Key   string `json:"key"` // of the resource's attribute, as "k8s.pod.label.team"
	Value string `json:"value"`
}

// Service is what OpenTelemetry's rules for Kubernetes find in a pod's annotations
// (resource.opentelemetry.io/…), and after those in its recommended labels; empty: nothing.
type Service struct {
	Name       string `json:"name,omitempty"`
	Namespace  string `json:"namespace,omitempty"`
	Version    string `json:"version,omitempty"`
	InstanceID string `json:"instance_id,omitempty"`
	// Others are the annotations' attributes besides these.
	Others []Attribute `json:"others,omitempty"`
}

// Container of a pod, of any kind: init, ephemeral or ordinary.
type Container struct {
	ID       string `json:"id,omitempty"`      // without the runtime's prefix; empty: not started yet
	Runtime  string `json:"runtime,omitempty"` // "containerd", "cri-o", "docker"; the ID's prefix; empty: not known
	Name     string `json:"name"`
	Image    string `json:"image,omitempty"`    // as the pod's specification names it
	ImageID  string `json:"image_id,omitempty"` // as the runtime resolved it; empty: not yet
	Restarts int    `json:"restarts,omitempty"`
}

// Peer is who has an address.
type Peer struct {
	Kind      PeerKind `json:"kind"`
	Name      string   `json:"name,omitempty"`
	Namespace string   `json:"namespace,omitempty"` // empty for a node
	Pod       *Pod     `json:"pod,omitempty"`       // of PeerPod
	// Ports of the address are the Service's, as ",80,443,": where others have the same address, as a load balancer's can be that of
	// all nodes. Empty: all ports.
	Ports string `json:"ports,omitempty"`
}

// HasPort says whether the port of the address is the peer's.
func (p *Peer) HasPort(port uint16) bool {
	return p.Ports == "" || strings.Contains(p.Ports, ","+strconv.Itoa(int(port))+",")
}

// PeerKind is what has an address.
type PeerKind uint8

// The kinds of peers. Their numbers are in recordings.
const (
	PeerNone PeerKind = iota
	PeerPod           // of this node
	PeerService
	PeerNode // this node
)
