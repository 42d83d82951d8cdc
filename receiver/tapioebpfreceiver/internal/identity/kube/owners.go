// Copyright The otelcol-tapio Authors
// SPDX-License-Identifier: Apache-2.0

package kube // import "github.com/tapio-io/otelcol-tapio/receiver/tapioebpfreceiver/internal/identity/kube"

import (
	"strconv"
	"strings"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/util/validation"
)

const (
	templateHashLabel = "pod-template-hash" // the Deployment controller sets it, and nobody else may

	// A Job of a CronJob is named after the minute that it was due. It may be late, and its pods may
	// be tried again for a while.
	maxJobLateness = 7 * 24 * time.Hour
	maxClockSkew   = 5 * time.Minute
)

// ownersOf are the pod's controller and, where its name leaves no doubt, the controller above that.
func ownersOf(pod *corev1.Pod) []Owner {
	controller := metav1.GetControllerOfNoCopy(pod)
	if controller == nil {
		return nil
	}
	group, _, _ := strings.Cut(controller.APIVersion, "/")
	isForeign := group != "apps" && group != "batch"
	owners := []Owner{{Kind: controller.Kind, Name: controller.Name, UID: string(controller.UID), IsForeign: isForeign}}
	switch {
	case controller.Kind == "ReplicaSet" && group == "apps":
		if name := deploymentOf(controller.Name, pod.Labels[templateHashLabel]); name != "" {
			owners = append(owners, Owner{Kind: "Deployment", Name: name})
		}
	case controller.Kind == "Job" && group == "batch":
		if name := cronJobOf(controller.Name, pod.CreationTimestamp.Time); name != "" {
			owners = append(owners, Owner{Kind: "CronJob", Name: name})
		}
	}
	return owners
}

// deploymentOf is the Deployment of a ReplicaSet, or "". A Deployment names its ReplicaSets after
// itself and the hash of their template, which is also a label of their pods. A name of the greatest
// length may have been cut off.
func deploymentOf(replicaSet, templateHash string) string {
	name, ok := strings.CutSuffix(replicaSet, "-"+templateHash)
	if !ok || templateHash == "" || len(replicaSet) >= validation.DNS1123SubdomainMaxLength {
		return ""
	}
	return name
}

// cronJobOf is the CronJob of a Job, or "". A CronJob names its Jobs after itself and the time they
// were due, in minutes since 1970. Other Jobs may end with digits as well, so these must be a minute
// shortly before the pod was created.
func cronJobOf(job string, podCreated time.Time) string {
	dash := strings.LastIndexByte(job, '-')
	if dash <= 0 {
		return ""
	}
	digits := job[dash+1:]
	minutes, err := strconv.ParseInt(digits, 10, 32)
	if err != nil || strconv.FormatInt(minutes, 10) != digits {
		return ""
	}
	late := podCreated.Sub(time.Unix(minutes*60, 0))
	if late < -maxClockSkew || late > maxJobLateness {
		return ""
	}
	return job[:dash]
}
