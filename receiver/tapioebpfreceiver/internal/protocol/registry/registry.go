// Copyright The otelcol-tapio Authors
// SPDX-License-Identifier: Apache-2.0

// Package registry reads the keys under which a Kubernetes API server keeps its objects in etcd.
package registry // import "github.com/tapio-io/otelcol-tapio/receiver/tapioebpfreceiver/internal/protocol/registry"

import (
	"strings"
	"unicode/utf8"
)

// Prefix of all keys, unless the API server is told another (--etcd-prefix).
const Prefix = "/registry/"

// Object is what a key names.
type Object struct {
	Group     string // of resources that are not built in: "example.com"; else empty
	Resource  string // as in the API: "pods"
	Namespace string // empty: it is the cluster's
	Name      string
}

// apiNames of resources whose keys have another name: pkg/registry of Kubernetes.
var apiNames = map[string]string{
	"controllers": "replicationcontrollers",
	"ingress":     "ingresses",
	"minions":     "nodes",
}

// services are below one name, by what they are.
const (
	servicesDirectory  = "services"
	servicesSpecs      = "specs"
	servicesEndpoints  = "endpoints"
	resourceOfServices = "services"
)

// Parse understands /registry/resource/name, /registry/resource/namespace/name, and both with a group, which
// has a dot, before the resource. What does not have this form, or is not UTF-8, is no object: false.
func Parse(key []byte) (Object, bool) {
	if !utf8.Valid(key) {
		return Object{}, false
	}
	rest, ok := strings.CutPrefix(string(key), Prefix)
	if !ok {
		return Object{}, false
	}
	var object Object
	parts := strings.Split(rest, "/")
	if strings.Contains(parts[0], ".") {
		object.Group, parts = parts[0], parts[1:]
	}
	if len(parts) == 0 {
		return Object{}, false
	}
	object.Resource, parts = resourceOf(parts)
	return object.with(parts)
}

// resourceOf the first parts, and the others.
func resourceOf(parts []string) (string, []string) {
	first, rest := parts[0], parts[1:]
	if first == servicesDirectory && len(rest) > 0 {
		switch rest[0] {
		case servicesSpecs:
			return resourceOfServices, rest[1:]
		case servicesEndpoints:
			return servicesEndpoints, rest[1:]
		}
	}
	if name, ok := apiNames[first]; ok {
		first = name
	}
	return first, rest
}

// with the last one or two parts of a key.
func (o Object) with(parts []string) (Object, bool) {
	switch len(parts) {
	case 1:
		o.Name = parts[0]
	case 2:
		o.Namespace, o.Name = parts[0], parts[1]
	default:
		return Object{}, false
	}
	isWhole := o.Resource != "" && o.Name != "" && (len(parts) == 1 || o.Namespace != "")
	if !isWhole {
		return Object{}, false
	}
	return o, true
}
