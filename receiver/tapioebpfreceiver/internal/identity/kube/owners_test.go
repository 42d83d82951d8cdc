// Copyright The otelcol-tapio Authors
// SPDX-License-Identifier: Apache-2.0

package kube

import (
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

// dueMinutes is 2026-01-02T03:04:00Z as a CronJob writes it into a Job's name.
const dueMinutes = "29455384"

var due = time.Date(2026, 1, 2, 3, 4, 0, 0, time.UTC)

func ownedPod(apiVersion, kind, name string) *corev1.Pod {
	yes := true
	return &corev1.Pod{ObjectMeta: metav1.ObjectMeta{
		CreationTimestamp: metav1.NewTime(due.Add(2 * time.Second)),
		OwnerReferences:   []metav1.OwnerReference{{APIVersion: apiVersion, Kind: kind, Name: name, UID: "u-1", Controller: &yes}},
	}}
}

func TestOwners(t *testing.T) {
	longest := strings.Repeat("d", 253-len("-5d9f7c8b6")) + "-5d9f7c8b6"
	for _, tt := range []struct {
		name                   string
		apiVersion, kind, owns string
		templateHash           string
		want                   []Owner
	}{
		{"deployment", "apps/v1", "ReplicaSet", "web-front-5d9f7c8b6", "5d9f7c8b6", []Owner{{"ReplicaSet", "web-front-5d9f7c8b6", "u-1", false}, {"Deployment", "web-front", "", false}}},
		{"replica set of nobody", "apps/v1", "ReplicaSet", "web-5d9f7c8b6", "", []Owner{{"ReplicaSet", "web-5d9f7c8b6", "u-1", false}}},
		{"replica set with another's hash", "apps/v1", "ReplicaSet", "web-5d9f7c8b6", "7c8b6", []Owner{{"ReplicaSet", "web-5d9f7c8b6", "u-1", false}}},
		{"deployment whose name may be cut off", "apps/v1", "ReplicaSet", longest, "5d9f7c8b6", []Owner{{"ReplicaSet", longest, "u-1", false}}},
		{"replica set of another group", "example.com/v1", "ReplicaSet", "web-5d9f7c8b6", "5d9f7c8b6", []Owner{{"ReplicaSet", "web-5d9f7c8b6", "u-1", true}}},
		{"stateful set", "apps/v1", "StatefulSet", "db", "", []Owner{{"StatefulSet", "db", "u-1", false}}},
		{"daemon set", "apps/v1", "DaemonSet", "agent", "", []Owner{{"DaemonSet", "agent", "u-1", false}}},
		{"static pod", "v1", "Node", "node-1", "", []Owner{{"Node", "node-1", "u-1", true}}},
		{"unknown kind", "argoproj.io/v1alpha1", "Rollout", "web", "", []Owner{{"Rollout", "web", "u-1", true}}},
		{"cron job", "batch/v1", "Job", "backup-" + dueMinutes, "", []Owner{{"Job", "backup-" + dueMinutes, "u-1", false}, {"CronJob", "backup", "", false}}},
		{"job of nobody", "batch/v1", "Job", "migrate", "", []Owner{{"Job", "migrate", "u-1", false}}},
		{"job with a date", "batch/v1", "Job", "backup-20260102", "", []Owner{{"Job", "backup-20260102", "u-1", false}}},
		{"job with a number", "batch/v1", "Job", "backup-7", "", []Owner{{"Job", "backup-7", "u-1", false}}},
		{"job with a padded number", "batch/v1", "Job", "backup-0" + dueMinutes, "", []Owner{{"Job", "backup-0" + dueMinutes, "u-1", false}}},
		{"job that is just a number", "batch/v1", "Job", "-" + dueMinutes, "", []Owner{{"Job", "-" + dueMinutes, "u-1", false}}},
		{"job with a number beyond all times", "batch/v1", "Job", "x-99999999999999999999", "", []Owner{{"Job", "x-99999999999999999999", "u-1", false}}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			pod := ownedPod(tt.apiVersion, tt.kind, tt.owns)
			if tt.templateHash != "" {
				pod.Labels = map[string]string{"pod-template-hash": tt.templateHash}
			}
			assert.Equal(t, tt.want, ownersOf(pod))
		})
	}
}

func TestOwnersOfNobody(t *testing.T) {
	assert.Empty(t, ownersOf(&corev1.Pod{}))
	pod := ownedPod("apps/v1", "ReplicaSet", "web-1")
	pod.OwnerReferences[0].Controller = nil // an owner for the garbage collector only
	assert.Empty(t, ownersOf(pod))
}

func TestCronJobOfLatePods(t *testing.T) {
	job := "backup-" + dueMinutes
	for late, want := range map[time.Duration]string{
		-6 * time.Minute:          "",
		-4 * time.Minute:          "backup", // clocks differ
		0:                         "backup",
		6 * 24 * time.Hour:        "backup", // tried again for days
		7*24*time.Hour + 1:        "",
		10 * 365 * 24 * time.Hour: "",
	} {
		assert.Equal(t, want, cronJobOf(job, due.Add(late)), late)
	}
}
