// Copyright The otelcol-tapio Authors
// SPDX-License-Identifier: Apache-2.0

package identity

import (
	"strings"
	"testing"
	"unicode/utf8"

	"github.com/stretchr/testify/assert"
)

const (
	idA     = "3f4e5d6c7b8a99a0b1c2d3e4f5061728394a5b6c7d8e9f00112233445566778a"
	idB     = "b0c1d2e3f405162738495a6b7c8d9eaf00112233445566778899aabbccddeeff"
	uid     = "2c48913c-b29f-11e7-9350-020968147796"
	uidUnit = "2c48913c_b29f_11e7_9350_020968147796"
	hashUID = "0f5a2ad4e1f0d1b6bd1a9d0e3c2b1a00"
)

var placesOfPaths = []struct {
	name, path string
	want       Place
}{
	{"Quadlet", "/system.slice/redis.service/libpod-payload-" + idA, Place{Runtime: "podman", ContainerID: idA}},
	{"Quadlet without root", "/user.slice/user-1000.slice/user@1000.service/app.slice/redis.service/libpod-payload-" + idA, Place{Runtime: "podman", ContainerID: idA}},
	{"systemd in Quadlet", "/system.slice/redis.service/libpod-payload-" + idA + "/init.scope", Place{Runtime: "podman", ContainerID: idA}},
	{"Quadlet's monitor", "/system.slice/redis.service/runtime", Place{Unit: "redis.service"}},
	{"LXC", "/lxc.payload.web1/system.slice/nginx.service", Place{Runtime: "lxc", ContainerID: "web1"}},
	{"another LXC", "/lxc.payload.web2/system.slice/nginx.service", Place{Runtime: "lxc", ContainerID: "web2"}},
	{"LXC's monitor", "/lxc.monitor.web1", Place{}},
	{"Proxmox", "/lxc/101/ns/system.slice/nginx.service", Place{Runtime: "lxc", ContainerID: "101"}},
	{"LXC of a version before", "/lxc.payload/web1/init.scope", Place{Runtime: "lxc", ContainerID: "web1"}},
	{"Docker in LXC", "/lxc.payload.web1/docker/" + idA, Place{Runtime: "docker", ContainerID: idA}},
	{"LXC without a name", "/lxc.payload./init.scope", Place{Unit: "init.scope"}},
	{"root", "/", Place{}},
	{"nothing", "", Place{}},
	{"slice", "/system.slice", Place{}},

	// Kubernetes, driver systemd
	{"containerd, burstable", "/kubepods.slice/kubepods-burstable.slice/kubepods-burstable-pod" + uidUnit + ".slice/cri-containerd-" + idA + ".scope", Place{Runtime: "containerd", ContainerID: idA, PodUID: uid}},
	{"containerd, besteffort", "/kubepods.slice/kubepods-besteffort.slice/kubepods-besteffort-pod" + uidUnit + ".slice/cri-containerd-" + idA + ".scope", Place{Runtime: "containerd", ContainerID: idA, PodUID: uid}},
	{"containerd, guaranteed", "/kubepods.slice/kubepods-pod" + uidUnit + ".slice/cri-containerd-" + idA + ".scope", Place{Runtime: "containerd", ContainerID: idA, PodUID: uid}},
	{"static pod", "/kubepods.slice/kubepods-burstable.slice/kubepods-burstable-pod" + hashUID + ".slice/cri-containerd-" + idA + ".scope", Place{Runtime: "containerd", ContainerID: idA, PodUID: hashUID}},
	{"static pod with a uid of its own", "/kubepods.slice/kubepods-podmy_uid.slice/cri-containerd-" + idA + ".scope", Place{Runtime: "containerd", ContainerID: idA, PodUID: "my-uid"}},
	{"CRI-O", "/kubepods.slice/kubepods-burstable.slice/kubepods-burstable-pod" + uidUnit + ".slice/crio-" + idA + ".scope", Place{Runtime: "cri-o", ContainerID: idA, PodUID: uid}},
	{"CRI-O with a nested cgroup", "/kubepods.slice/kubepods-pod" + uidUnit + ".slice/crio-" + idA + ".scope/container", Place{Runtime: "cri-o", ContainerID: idA, PodUID: uid}},
	{"CRI-O's monitor is none of the container's", "/kubepods.slice/kubepods-pod" + uidUnit + ".slice/crio-conmon-" + idA + ".scope", Place{PodUID: uid}},
	{"Docker by cri-dockerd", "/kubepods.slice/kubepods-pod" + uidUnit + ".slice/docker-" + idA + ".scope", Place{Runtime: "docker", ContainerID: idA, PodUID: uid}},
	{"kind", "/kubelet.slice/kubelet-kubepods.slice/kubelet-kubepods-besteffort.slice/kubelet-kubepods-besteffort-pod" + uidUnit + ".slice/cri-containerd-" + idA + ".scope", Place{Runtime: "containerd", ContainerID: idA, PodUID: uid}},
	{"kind, seen from its host", "/system.slice/docker-" + idB + ".scope/kubelet.slice/kubelet-kubepods.slice/kubelet-kubepods-pod" + uidUnit + ".slice/cri-containerd-" + idA + ".scope", Place{Runtime: "containerd", ContainerID: idA, PodUID: uid}},
	{"kind's node itself, seen from its host", "/system.slice/docker-" + idB + ".scope/kubelet.slice/kubelet.service", Place{Runtime: "docker", ContainerID: idB}},
	{"the pod's own cgroup", "/kubepods.slice/kubepods-burstable.slice/kubepods-burstable-pod" + uidUnit + ".slice", Place{PodUID: uid}},
	{"all pods", "/kubepods.slice/kubepods-burstable.slice", Place{}},
	{"systemd in a container", "/kubepods.slice/kubepods-pod" + uidUnit + ".slice/cri-containerd-" + idA + ".scope/system.slice/nginx.service", Place{Runtime: "containerd", ContainerID: idA, PodUID: uid}},
	{"Docker in a container of a pod", "/kubepods.slice/kubepods-pod" + uidUnit + ".slice/cri-containerd-" + idA + ".scope/docker/" + idB, Place{Runtime: "containerd", ContainerID: idA, PodUID: uid}},
	{"a container's id that is not of the usual form", "/kubepods.slice/kubepods-pod" + uidUnit + ".slice/cri-containerd-web.1.scope", Place{Runtime: "containerd", ContainerID: "web.1", PodUID: uid}},
	{"a container's id of no form", "/kubepods.slice/kubepods-pod" + uidUnit + ".slice/cri-containerd-.scope", Place{PodUID: uid}},
	{"an id in capitals", "/kubepods.slice/kubepods-pod" + uidUnit + ".slice/crio-" + strings.ToUpper(idA) + ".scope", Place{PodUID: uid}},
	{"an id that is too short", "/kubepods.slice/kubepods-pod" + uidUnit + ".slice/crio-" + idA[1:] + ".scope", Place{PodUID: uid}},
	{"removed", "/kubepods.slice/kubepods-pod" + uidUnit + ".slice/cri-containerd-" + idA + ".scope (deleted)", Place{Runtime: "containerd", ContainerID: idA, PodUID: uid}},

	// Kubernetes, driver cgroupfs
	{"cgroupfs, burstable", "/kubepods/burstable/pod" + uid + "/" + idA, Place{ContainerID: idA, PodUID: uid}},
	{"cgroupfs, guaranteed", "/kubepods/pod" + uid + "/" + idA, Place{ContainerID: idA, PodUID: uid}},
	{"cgroupfs, static pod", "/kubepods/besteffort/pod" + hashUID + "/" + idA, Place{ContainerID: idA, PodUID: hashUID}},
	{"cgroupfs, CRI-O", "/kubepods/burstable/pod" + uid + "/crio-" + idA, Place{Runtime: "cri-o", ContainerID: idA, PodUID: uid}},
	{"cgroupfs, CRI-O's monitor", "/kubepods/burstable/pod" + uid + "/crio-conmon-" + idA, Place{PodUID: uid}},
	{"cgroupfs below a root", "/k3s/kubepods/burstable/pod" + uid + "/" + idA, Place{ContainerID: idA, PodUID: uid}},
	{"cgroupfs below a root of the kubelet's", "/kubelet/kubepods/besteffort/pod" + uid + "/" + idA, Place{ContainerID: idA, PodUID: uid}},
	{"cgroupfs in kind, seen from its host", "/docker/" + idB + "/kubelet/kubepods/pod" + uid + "/" + idA, Place{ContainerID: idA, PodUID: uid}},
	{"cgroupfs, nested", "/kubepods/burstable/pod" + uid + "/" + idA + "/init", Place{ContainerID: idA, PodUID: uid}},
	{"the same at the root", "/kubepods-burstable-pod" + uidUnit + ".slice:cri-containerd:" + idA, Place{Runtime: "containerd", ContainerID: idA, PodUID: uid}},
	{"the same in kind", "/docker/" + idB + "/kubepods-burstable-pod" + uidUnit + ".slice:cri-containerd:" + idA, Place{Runtime: "containerd", ContainerID: idA, PodUID: uid}},
	{"a service's name for the driver systemd, and the driver is cgroupfs", "/system.slice/containerd.service/kubepods-burstable-pod" + uidUnit + ".slice:cri-containerd:" + idA, Place{Runtime: "containerd", ContainerID: idA, PodUID: uid}},
	{"podman in a pod", "/kubepods/burstable/pod" + uid + "/" + idA + "/podman", Place{ContainerID: idA, PodUID: uid}},
	{"a folder of a pod's called after a neighbour", "/kubepods/burstable/pod" + uid + "/" + idA + "/pod" + hashUID, Place{ContainerID: idA, PodUID: uid}},
	{"and below a kubepods of its own", "/kubepods/burstable/pod" + uid + "/" + idA + "/kubepods/pod" + hashUID + "/" + idB, Place{ContainerID: idA, PodUID: uid}},
	{"a slice of a pod's called after a neighbour", "/kubepods.slice/kubepods-pod" + uidUnit + ".slice/cri-containerd-" + idA + ".scope/kubepods-podman.slice", Place{Runtime: "containerd", ContainerID: idA, PodUID: uid}},
	{"a slice that is not where its name says", "/system.slice/docker-" + idA + ".scope/kubepods-pod" + uidUnit + ".slice", Place{Runtime: "docker", ContainerID: idA}},
	{"a pod in a folder of kubepods", "/kubepods/tools/pod" + uid, Place{}},
	{"pod outside of kubepods", "/pod" + uid, Place{}},

	// containers without Kubernetes
	{"Docker, systemd", "/system.slice/docker-" + idA + ".scope", Place{Runtime: "docker", ContainerID: idA}},
	{"Docker, cgroupfs", "/docker/" + idA, Place{Runtime: "docker", ContainerID: idA}},
	{"Docker with another parent", "/builds/" + idA, Place{ContainerID: idA}},
	{"Docker without root", "/user.slice/user-1000.slice/user@1000.service/user.slice/docker-" + idA + ".scope", Place{Runtime: "docker", ContainerID: idA}},
	{"Docker in Docker", "/docker/" + idA + "/docker/" + idB, Place{Runtime: "docker", ContainerID: idB}},
	{"systemd in Docker", "/docker/" + idA + "/system.slice/cron.service", Place{Runtime: "docker", ContainerID: idA}},
	{"podman", "/machine.slice/libpod-" + idA + ".scope", Place{Runtime: "podman", ContainerID: idA}},
	{"podman, nested", "/machine.slice/libpod-" + idA + ".scope/container", Place{Runtime: "podman", ContainerID: idA}},
	{"podman without root", "/user.slice/user-1000.slice/user@1000.service/user.slice/libpod-" + idA + ".scope/container", Place{Runtime: "podman", ContainerID: idA}},
	{"podman, cgroupfs", "/libpod_parent/libpod-" + idA, Place{Runtime: "podman", ContainerID: idA}},
	{"podman's monitor", "/machine.slice/libpod-conmon-" + idA + ".scope", Place{Unit: "libpod-conmon-" + idA + ".scope"}},
	{"nerdctl", "/system.slice/nerdctl-" + idA + ".scope", Place{Runtime: "containerd", ContainerID: idA}},
	{"ECS", "/ecs/b5f2a8d1c3e44f0f9a1b/" + idA, Place{ContainerID: idA}},

	// no containers
	{"service", "/system.slice/nginx.service", Place{Unit: "nginx.service"}},
	{"instance of a service", "/system.slice/system-postgresql.slice/postgresql@15-main.service", Place{Unit: "postgresql@15-main.service"}},
	{"service with cgroups of its own", "/system.slice/systemd-udevd.service/udev", Place{Unit: "systemd-udevd.service"}},
	{"session", "/user.slice/user-1000.slice/session-3.scope", Place{Unit: "session-3.scope"}},
	{"a user's service", "/user.slice/user-1000.slice/user@1000.service/app.slice/dbus.service", Place{Unit: "user@1000.service"}},
	{"a service of D-Bus", `/system.slice/system-dbus\x2d:1.2\x2dorg.freedesktop.problems.slice/dbus-:1.2-org.freedesktop.problems@0.service`, Place{Unit: "dbus-:1.2-org.freedesktop.problems@0.service"}},
	{"escaped", "/system.slice/_cpu.service", Place{Unit: "cpu.service"}},
	{"the kubelet", "/system.slice/kubelet.service", Place{Unit: "kubelet.service"}},
	{"containerd", "/system.slice/containerd.service", Place{Unit: "containerd.service"}},
	{"init", "/init.scope", Place{Unit: "init.scope"}},
	{"a service called docker-something", "/system.slice/docker-compose.service", Place{Unit: "docker-compose.service"}},
	{"suffixes only", "/.service/.scope", Place{}},
	{"cgroup namespace", "/../../system.slice/a.service", Place{Unit: "a.service"}},
	{"no bytes that mean anything", "/\xff\x00/:::", Place{}},
}

func TestPlaceOf(t *testing.T) {
	for _, tt := range placesOfPaths {
		t.Run(tt.name, func(t *testing.T) { assert.Equal(t, tt.want, PlaceOf(tt.path)) })
	}
}

func TestContainerdID(t *testing.T) {
	for id, want := range map[string]bool{
		"a": true, "web.1": true, "A_b-c.9": true, strings.Repeat("a", 76): true,
		"": false, strings.Repeat("a", 77): false, "-a": false, "a-": false, "a..b": false, "a b": false, "ä": false, "a/b": false,
	} {
		assert.Equal(t, want, isContainerdID(id), id)
	}
}

func FuzzPlaceOf(f *testing.F) {
	for _, tt := range placesOfPaths {
		f.Add(tt.path)
	}
	f.Fuzz(func(t *testing.T, path string) {
		place := PlaceOf(path)
		for _, part := range []string{place.ContainerID, place.PodUID} {
			if !utf8.ValidString(part) || strings.ContainsAny(part, "/:\x00") {
				t.Errorf("%q of %q", part, path)
			}
		}
		// nothing is made up
		if !strings.Contains(path, place.ContainerID) || !strings.Contains(path, place.Unit) ||
			!strings.Contains(strings.ReplaceAll(path, "_", "-"), place.PodUID) {
			t.Errorf("%+v is not in %q", place, path)
		}
		if place.Unit != "" && (place.ContainerID != "" || place.PodUID != "") {
			t.Errorf("%+v is a unit and a container", place)
		}
		if place.Runtime != "" && place.ContainerID == "" {
			t.Errorf("%+v has no container", place)
		}
	})
}
