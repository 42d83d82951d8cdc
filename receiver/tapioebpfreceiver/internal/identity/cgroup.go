// Copyright The otelcol-tapio Authors
// SPDX-License-Identifier: Apache-2.0

package identity // import "github.com/tapio-io/otelcol-tapio/receiver/tapioebpfreceiver/internal/identity"

import "strings"

// Place is what the path of a cgroup says of the processes in it. What it does not say is empty.
type Place struct {
	// Runtime of the container, as container.runtime.name has it.
	Runtime     string
	ContainerID string
	PodUID      string
	// Unit of systemd: a service, or a scope. Not of what is in a container or pod.
	Unit string
}

// Runtimes, as container.runtime.name and Kubernetes' container ids have them.
const (
	runtimeContainerd = "containerd"
	runtimeCRIO       = "cri-o"
	runtimeDocker     = "docker"
	runtimePodman     = "podman"
	runtimeLXC        = "lxc" // LXD, Incus and Proxmox, too
)

// hexID is the length of the ids that Docker, podman, CRI-O and containerd's CRI give out.
const hexID = 64

// maxContainerdID is the most that containerd takes as an id (pkg/identifiers).
const maxContainerdID = 76

// runtimesByPrefix are how runtimes name the cgroup of a container, before its id. The systemd driver adds ".scope";
// podman keeps its prefix with cgroupfs, too, and so does CRI-O.
var runtimesByPrefix = []struct {
	prefix, runtime string
	anyID           bool // ids are what the caller wanted them to be
}{
	{"cri-containerd-", runtimeContainerd, true},
	{"nerdctl-", runtimeContainerd, true},
	{"crio-", runtimeCRIO, false},
	{"docker-", runtimeDocker, false},
	{"libpod-payload-", runtimePodman, false}, // below a unit's own cgroup (--cgroups=split), as Quadlet's are
	{"libpod-", runtimePodman, false},
}

// runtimesByParent are the cgroups right below which a runtime has those of its containers, with the
// cgroupfs driver and no other parent given; "cri-containerd" is where containerd writes down slice,
// prefix and id although its driver is cgroupfs.
var runtimesByParent = map[string]string{
	"docker":         runtimeDocker,
	"libpod_parent":  runtimePodman,
	"cri-containerd": runtimeContainerd,
	"k8s.io":         runtimeContainerd,
}

// PlaceOf reads a cgroup's path, below its hierarchy's root.
//
// Where the node is a container itself, as kind's are, a pod within it counts. A pod within a pod does
// not: it is not one that the API server of this node knows, and whoever may make cgroups in a container
// could name one after a neighbour. Of a pod it is the container right below it, since that is the one
// that Kubernetes knows; without a pod, the innermost. What is no container's id in any known form is none.
func PlaceOf(path string) Place {
	var place Place
	parent, inKubepods := "", false
	for rest := strings.TrimSuffix(path, " (deleted)"); rest != ""; {
		var name string
		whole := rest
		name, rest = nextName(rest)
		uid := ""
		if place.PodUID == "" {
			isContainerds := len(name) < len(whole) && whole[len(name)] == ':'
			uid = podOf(name, parent, inKubepods, isContainerds)
		}
		switch {
		case uid != "":
			place = Place{PodUID: uid}
		case isKubepods(name):
			inKubepods = true
		default:
			place.add(name, parent)
		}
		parent = name
	}
	if place.ContainerID != "" || place.PodUID != "" {
		place.Unit = ""
	}
	return place
}

// nextName of a path. Where containerd was given a slice's name although its driver is cgroupfs, a colon
// separates, too: <slice>:cri-containerd:<id>.
func nextName(path string) (name, rest string) {
	name, rest, _ = strings.Cut(path, "/")
	before, _, hasColon := strings.Cut(name, ":")
	if hasColon && (strings.HasSuffix(before, ".slice") || runtimesByParent[before] != "") {
		return before, path[len(before)+1:]
	}
	return name, rest
}

// add what one more name says.
func (p *Place) add(name, parent string) {
	if p.ContainerID != "" && p.PodUID != "" {
		return // within the pod's container
	}
	if runtime, id := containerOf(name, parent); id != "" {
		p.Runtime, p.ContainerID = runtime, id
		return
	}
	if p.Unit == "" && isUnit(name) {
		p.Unit = strings.TrimPrefix(name, "_") // systemd's escape for names that the kernel could take for its own
	}
}

// isUnit says whether processes may be in it for itself: slices only hold others.
func isUnit(name string) bool {
	return len(name) > len(".service") && strings.HasSuffix(name, ".service") ||
		len(name) > len(".scope") && strings.HasSuffix(name, ".scope")
}

// isKubepods is the root of all pods: "kubepods" with cgroupfs, "kubepods.slice" with systemd, and with
// a prefix where the kubelet has a root of its own, as kind's has.
func isKubepods(name string) bool {
	name = strings.TrimSuffix(name, ".slice")
	return name == "kubepods" || strings.HasSuffix(name, "-kubepods")
}

// podOf a cgroup: "pod<uid>" below kubepods or a class of quality with cgroupfs, "kubepods-burstable-
// pod<uid>.slice" with systemd, where a dash means a level and is an underscore in the uid. A slice is
// below the one that its name says, but for what containerd makes of it with cgroupfs: see nextName.
func podOf(name, parent string, inKubepods, isContainerds bool) (uid string) {
	slice, isSlice := strings.CutSuffix(name, ".slice")
	if !isSlice {
		uid, isPod := strings.CutPrefix(name, "pod")
		if isPod && inKubepods && (isKubepods(parent) || parent == "burstable" || parent == "besteffort") && isPodUID(uid) {
			return uid
		}
		return ""
	}
	i := strings.LastIndex(slice, "-pod")
	if i < 0 || !strings.Contains(slice[:i], "kubepods") || parent != slice[:i]+".slice" && !isContainerds {
		return ""
	}
	uid = strings.ReplaceAll(slice[i+len("-pod"):], "_", "-")
	if !isPodUID(uid) {
		return ""
	}
	return uid
}

// maxPodUID is far more than there is: uids are UUIDs, or hashes of 32 hex digits for static pods, unless
// their manifest has another.
const maxPodUID = 128

func isPodUID(uid string) bool {
	return len(uid) > 0 && len(uid) <= maxPodUID && strings.IndexFunc(uid, func(r rune) bool {
		return (r < '0' || r > '9') && (r < 'a' || r > 'z') && (r < 'A' || r > 'Z') && r != '-'
	}) < 0
}

// containerOf a cgroup's name, and of the name above it. A runtime's monitor, which is beside its container
// (crio-conmon-…, libpod-conmon-…), is none.
func containerOf(name, parent string) (runtime, id string) {
	scope, isScope := strings.CutSuffix(name, ".scope")
	for i := range runtimesByPrefix {
		known := &runtimesByPrefix[i]
		id, ok := strings.CutPrefix(scope, known.prefix)
		if ok && (isHexID(id) || known.anyID && isScope && isContainerdID(id)) {
			return known.runtime, id
		}
	}
	if !isScope && isHexID(name) {
		return runtimesByParent[parent], name
	}
	if name, ok := guestOf(name, parent); ok && isContainerdID(name) {
		return runtimeLXC, name
	}
	return "", ""
}

// guestOf LXC, LXD, Incus and Proxmox is named by who made it. It has units of its own, which are not the host's.
func guestOf(name, parent string) (guest string, ok bool) {
	if parent == "lxc" || parent == "lxc.payload" {
		return name, true
	}
	return strings.CutPrefix(name, "lxc.payload.")
}

func isHexID(id string) bool {
	return len(id) == hexID && strings.IndexFunc(id, func(r rune) bool {
		return (r < '0' || r > '9') && (r < 'a' || r > 'f')
	}) < 0
}

// isContainerdID follows containerd's own rule: letters and digits, with dots, dashes and underscores
// between.
func isContainerdID(id string) bool {
	isSeparator := func(r rune) bool { return r == '-' || r == '_' || r == '.' }
	last := '-'
	for _, r := range id {
		isWord := r >= '0' && r <= '9' || r >= 'a' && r <= 'z' || r >= 'A' && r <= 'Z'
		if !isWord && (!isSeparator(r) || isSeparator(last)) {
			return false
		}
		last = r
	}
	return len(id) > 0 && len(id) <= maxContainerdID && !isSeparator(last)
}
