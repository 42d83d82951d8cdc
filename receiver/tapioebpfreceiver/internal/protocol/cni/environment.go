// Copyright The otelcol-tapio Authors
// SPDX-License-Identifier: Apache-2.0

// Package cni reads what container runtimes and CNI plugins tell each other, as the Container Network Interface
// specification 1.1.0 has it: variables one way, errors the other.
package cni // import "github.com/tapio-io/otelcol-tapio/receiver/tapioebpfreceiver/internal/protocol/cni"

import (
	"bytes"
	"strings"
)

// Commands of the specification.
const (
	Add     = "ADD"
	Del     = "DEL"
	Check   = "CHECK"
	Status  = "STATUS"
	GC      = "GC"
	Version = "VERSION"
)

// Environment is what a plugin is told to do. What was not told is empty.
type Environment struct {
	Command     string
	ContainerID string
	Netns       string // path
	Interface   string
	Pod         Pod
}

// Pod is who the network is for, as runtimes of Kubernetes tell it in CNI_ARGS.
type Pod struct{ Namespace, Name, UID string }

// ParseEnvironment reads variables, each NAME=value and NUL. Of one that is there twice the first counts, as it does for
// the C library and for Go. Text that is not UTF-8 is made so.
func ParseEnvironment(variables []byte) (e Environment) {
	var arguments string
	targets := map[string]*string{
		"CNI_COMMAND": &e.Command, "CNI_CONTAINERID": &e.ContainerID, "CNI_NETNS": &e.Netns, "CNI_IFNAME": &e.Interface,
		"CNI_ARGS": &arguments,
	}
	for variable := range bytes.SplitSeq(variables, []byte{0}) {
		name, value, _ := bytes.Cut(variable, []byte("="))
		if target := targets[string(name)]; target != nil {
			*target = strings.ToValidUTF8(string(value), "\uFFFD")
			delete(targets, string(name))
		}
	}
	e.Pod = parseArguments(arguments)
	return e
}

// parseArguments reads NAME=value;NAME=value. What is not of a pod is nobody's business.
func parseArguments(arguments string) (pod Pod) {
	for argument := range strings.SplitSeq(arguments, ";") {
		name, value, _ := strings.Cut(argument, "=")
		switch name {
		case "K8S_POD_NAMESPACE":
			pod.Namespace = value
		case "K8S_POD_NAME":
			pod.Name = value
		case "K8S_POD_UID":
			pod.UID = value
		}
	}
	return pod
}

// IsKnown says that the command is one of the specification's.
func (e *Environment) IsKnown() bool {
	switch e.Command {
	case Add, Del, Check, Status, GC, Version:
		return true
	default:
		return false
	}
}

// IsChained says that the command is given to the plugins of a network one after the other, for the same interface of the
// same container.
func (e *Environment) IsChained() bool {
	return (e.Command == Add || e.Command == Del || e.Command == Check) && e.ContainerID != ""
}
