// Copyright The otelcol-tapio Authors
// SPDX-License-Identifier: Apache-2.0

package kube // import "github.com/tapio-io/otelcol-tapio/receiver/tapioebpfreceiver/internal/identity/kube"

import (
	"slices"
	"strings"

	corev1 "k8s.io/api/core/v1"
)

const (
	resourcePrefix = "resource.opentelemetry.io/"
	versionLabel   = "app.kubernetes.io/version"

	// A pod's annotations may have 256 KiB. What is longer than this is no name, and is left out: a
	// part of it would be another value.
	maxValueBytes = 4096
	// A resource with more attributes than these is nobody's wish.
	maxOthers  = 64
	maxIDBytes = 128 // the runtimes' ids have 64
)

// serviceOf follows the conventions' rules for Kubernetes
// (https://opentelemetry.io/docs/specs/semconv/non-normative/k8s-attributes/) as far as the pod itself
// tells the answer:
//
//   - every annotation resource.opentelemetry.io/KEY is the resource attribute KEY, and stands before
//     what is found otherwise;
//   - service.name: after that the first of the given labels that the pod has;
//   - service.version: after that the label app.kubernetes.io/version, if any label may be used.
//
// What the rules name next (workload, pod and container) is in Pod itself. The conventions ask that
// the use of labels can be chosen: without labels, only annotations count.
func serviceOf(pod *corev1.Pod, nameLabels []string) Service {
	service := annotatedService(pod.Annotations)
	for _, label := range nameLabels {
		if service.Name == "" {
			service.Name = bounded(pod.Labels[label])
		}
	}
	if service.Version == "" && len(nameLabels) > 0 {
		service.Version = bounded(pod.Labels[versionLabel])
	}
	return service
}

func annotatedService(annotations map[string]string) (service Service) {
	for annotation, value := range annotations {
		key, ok := strings.CutPrefix(annotation, resourcePrefix)
		if value = bounded(value); !ok || value == "" {
			continue
		}
		switch key {
		case "service.name":
			service.Name = value
		case "service.namespace":
			service.Namespace = value
		case "service.version":
			service.Version = value
		case "service.instance.id":
			service.InstanceID = value
		default:
			service.Others = appendOther(service.Others, key, value)
		}
	}
	slices.SortFunc(service.Others, func(a, b Attribute) int { return strings.Compare(a.Key, b.Key) })
	service.Others = service.Others[:min(len(service.Others), maxOthers)]
	return service
}

// appendOther leaves out what would speak for this agent: nobody else can tell where its data is from.
func appendOther(others []Attribute, key, value string) []Attribute {
	if key == "" || strings.HasPrefix(key, "tapio.") {
		return others
	}
	return append(others, Attribute{Key: key, Value: value})
}

// bounded is the text, or empty where that is too long.
func bounded(text string) string {
	if len(text) > maxValueBytes {
		return ""
	}
	return text
}
