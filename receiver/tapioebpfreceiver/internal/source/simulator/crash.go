// Copyright The otelcol-tapio Authors
// SPDX-License-Identifier: Apache-2.0

package simulator // import "github.com/tapio-io/otelcol-tapio/receiver/tapioebpfreceiver/internal/source/simulator"

import (
	"fmt"
	"strings"

	"github.com/tapio-io/otelcol-tapio/receiver/tapioebpfreceiver/internal/event"
)

const (
	sidecarName = "exporter"
	sidecarExe  = "/usr/bin/exporter"
)

// maxCrashed containers are remembered, longer than anybody asks for them.
const maxCrashed = 4096

// sidecar is the container of a pod that does not always come up.
type sidecar struct {
	restarts int
	ends     uint64 // when its last crash loop is over; CLOCK_BOOTTIME, ns
}

// container of a sidecar: each restart has another one.
type container struct {
	pod      *pod
	id       string
	cgroup   uint64
	restarts int
	vpids    *numbers
}

func (c *container) cgroupPath() string { return cgroupPath(c.pod, c.id) }

// cgroupPath is that of a pod's container, by containerd with the driver systemd.
func cgroupPath(p *pod, container string) string {
	return fmt.Sprintf("/kubepods.slice/kubepods-burstable.slice/kubepods-burstable-pod%s.slice/cri-containerd-%s.scope",
		strings.ReplaceAll(p.uid, "-", "_"), container)
}

// crashed are the containers that there were.
type crashed struct {
	nextCgroup uint64
	byID       map[string]*container
	ids        []string // the oldest first
}

func (w *world) newContainer(p *pod) *container {
	made := &container{pod: p, id: w.hex(64), cgroup: w.crashed.nextCgroup, restarts: p.sidecar.restarts, vpids: newNumbers(1, lastPID)}
	p.sidecar.restarts++
	w.crashed.nextCgroup++
	w.crashed.byID[made.id] = made
	w.crashed.ids = append(w.crashed.ids, made.id)
	if len(w.crashed.ids) > maxCrashed {
		delete(w.crashed.byID, w.crashed.ids[0])
		w.crashed.ids = w.crashed.ids[1:]
	}
	return made
}

// crashLoop is a container that does not come up: its program fails, or takes more memory than it may, and it is
// made anew. While a pod's loop lasts, its container is seen to as it is when all is well.
func (s *story) crashLoop(now uint64) uint64 {
	p := s.anyPodOfAll()
	if now < p.sidecar.ends {
		return s.probe(now)
	}
	for range 3 {
		now = s.crash(s.newContainer(p), now) + s.between(10*millisecond, 40*millisecond)
	}
	p.sidecar.ends = now
	return now
}

// crash is all of a container's life.
func (s *story) crash(c *container, now uint64) uint64 {
	now = s.createContainer(c, now)
	parent := s.shims[c.pod].into(c.pod)
	parent.cgroup, parent.vpids = c.cgroup, c.vpids
	of := &program{exe: sidecarExe, args: []string{sidecarName, "--serve"}, status: failure}
	if s.chance(0.3) {
		of.status, of.does = killed, s.exhaustMemory
	}
	now = s.shortly(s.run(parent, now, of))
	s.tell(event.FamilyCgroup, now, cgroupRecord(event.TypeCgroupRemoved, c, now))
	return now
}

func (s *story) exhaustMemory(victim *process, now uint64) uint64 {
	s.tell(event.FamilyProcess, now, oomRecord(victim, now))
	return now
}
