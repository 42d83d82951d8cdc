// Copyright The otelcol-tapio Authors
// SPDX-License-Identifier: Apache-2.0

package simulator // import "github.com/tapio-io/otelcol-tapio/receiver/tapioebpfreceiver/internal/source/simulator"

import (
	"github.com/tapio-io/otelcol-tapio/bpf"
	"github.com/tapio-io/otelcol-tapio/receiver/tapioebpfreceiver/internal/event"
)

const (
	shadow     = "/etc/shadow"
	sudoers    = "/etc/sudoers"
	kubeletKey = "/var/lib/kubelet/pki/kubelet-client-2026-01-15-08-30-00.pem"
)

// ofSecurity is what nodes do all day and what would matter if somebody else did it. Most of it is of processes that
// are there anyway.
func (s *story) ofSecurity(now uint64, hasRoomForProcesses bool) {
	if s.chance(s.scenarios.Attack) {
		s.attack(now)
		return
	}
	if hasRoomForProcesses {
		switch s.random.IntN(20) {
		case 0:
			s.check(now)
			return
		case 1:
			s.archive(now)
			return
		case 2:
			s.enter(now)
			return
		case 3:
			s.probeTunnel(now)
			return
		}
	}
	if s.chance(0.1) {
		s.open(s.kubelet, now, kubeletKey)
		return
	}
	s.readSecret(now)
}

// readSecret is a server, or one of its workers, that reads its key or its token again, since these change while it
// runs.
func (s *story) readSecret(now uint64) uint64 {
	p := s.anyPodOfAll()
	for len(p.service.secrets) == 0 { // there is one of each service
		p = s.anyPodOfAll()
	}
	file := p.service.secrets[s.random.IntN(len(p.service.secrets))]
	if file == podToken {
		file = p.token
	}
	if p.worker != nil && s.chance(0.8) {
		return s.open(p.worker, now, file)
	}
	return s.open(p.server, now, file)
}

// asUser has a process of root go on as somebody else.
func (s *story) asUser(p *process, now uint64, id uint32) uint64 {
	now = s.setgid(p, now, id)
	return s.setuid(p, now, id)
}

// asCheck is a process of cron that is about to be one of the user who checks the node.
func (s *story) asCheck(p *process, now uint64) uint64 {
	return s.asUser(p, s.open(p, now, shadow), userCheck)
}

// check is a cron job of a user who needs root's help to send a ping, as a set-user-ID program gives it.
func (s *story) check(now uint64) uint64 {
	return s.run(s.cron, now, &program{
		exe: "/bin/dash", args: []string{"/bin/sh", "-c", "ping -c 1 -q 192.0.2.1"}, before: s.asCheck,
		does: func(shell *process, now uint64) uint64 {
			return s.run(shell, now, &program{
				exe: "/usr/bin/ping", args: []string{"ping", "-c", "1", "-q", "192.0.2.1"}, setuid: true,
				does: func(ping *process, now uint64) uint64 {
					now = s.try(ping, now, event.SecurityRawSocket, bpf.WireSecurityOperationOPERATION_SOCKET, 0, familyInet, socketRaw, protocolICMP)
					return s.setuid(ping, now, userCheck)
				},
			})
		},
	})
}

// archive is a cron job that reads all that it may in /etc, and tries the rest.
func (s *story) archive(now uint64) uint64 {
	return s.run(s.cron, now, &program{
		exe: "/usr/bin/tar", args: []string{"tar", "-czf", "/var/lib/check/etc.tar.gz", "/etc"}, before: s.asCheck, status: 2 << 8,
		does: func(tar *process, now uint64) uint64 {
			for _, file := range []string{"/etc/gshadow", shadow, "/etc/ssh/ssh_host_ed25519_key", sudoers} {
				now = s.openInVain(tar, now, file) + s.between(millisecond, 20*millisecond)
			}
			return now
		},
	})
}

// probeTunnel is a cron job that looks from the network of a tunnel whether there is anybody at its end. For that ip
// joins the network, and has a mount namespace with the /sys of it.
func (s *story) probeTunnel(now uint64) uint64 {
	return s.run(s.cron, now, &program{
		exe: "/usr/bin/ip", args: []string{"ip", "netns", "exec", "tunnel", "ping", "-c", "1", "-q", "192.0.2.99"},
		does: func(p *process, now uint64) uint64 {
			now = s.try(p, now, event.SecurityNamespace, bpf.WireSecurityOperationOPERATION_SETNS, 0, namespaceNet)
			now = s.try(p, now, event.SecurityNamespace, bpf.WireSecurityOperationOPERATION_UNSHARE, 0, namespaceMount)
			now = s.mount(p, now, 0, mounted{"", "/", "none", mountSlave | mountRec})
			now = s.mount(p, now, 0, mounted{"tunnel", "/sys", "sysfs", 0})
			now = s.exec(p, now, &program{exe: "/usr/bin/ping", args: []string{"ping", "-c", "1", "-q", "192.0.2.99"}})
			return s.try(p, now, event.SecurityRawSocket, bpf.WireSecurityOperationOPERATION_SOCKET, 0, familyInet, socketRaw, protocolICMP)
		},
	})
}

// enter is an operator who looks at something in a container.
func (s *story) enter(now uint64) uint64 {
	p := s.anyPodOfAll()
	now = s.run(s.shims[p], now, &program{
		exe: "/usr/bin/runc", args: []string{"runc", "--root", "/run/containerd/runc/k8s.io", "exec", "--detach", p.container},
		does: func(runc *process, now uint64) uint64 {
			for _, kind := range []uint64{namespaceIPC, namespaceUTS, namespaceNet, namespacePID, namespaceMount, namespaceCgroup} {
				now = s.try(runc, now, event.SecurityNamespace, bpf.WireSecurityOperationOPERATION_SETNS, 0, kind)
			}
			return now
		},
	})
	return s.command(s.shims[p].into(p), now, "/bin/busybox", []string{"ls", "-l", "/tmp"}, 0, nil)
}

// createContainer is what a runtime does before a container's program runs: it joins the namespaces of the pod,
// makes those of the container, and mounts what will be seen there.
func (s *story) createContainer(c *container, now uint64) uint64 {
	bundle := "/run/containerd/io.containerd.runtime.v2.task/k8s.io/" + c.id
	root := bundle + "/rootfs"
	return s.run(s.shims[c.pod], now, &program{
		exe: "/usr/bin/runc", args: []string{"runc", "--root", "/run/containerd/runc/k8s.io", "create", "--bundle", bundle, c.id},
		does: func(runc *process, now uint64) uint64 {
			s.tell(event.FamilyCgroup, now, cgroupRecord(event.TypeCgroupMade, c, now))
			now = s.shortly(now)
			now = s.try(runc, now, event.SecurityNamespace, bpf.WireSecurityOperationOPERATION_SETNS, 0, namespaceNet)
			now = s.try(runc, now, event.SecurityNamespace, bpf.WireSecurityOperationOPERATION_UNSHARE, 0,
				namespaceMount|namespacePID|namespaceCgroup)
			now = s.try(runc, now, event.SecurityBPF, bpf.WireSecurityOperationOPERATION_BPF, 0, bpfProgramLoad, bpfProgramCgroupDevice)
			for _, of := range []mounted{
				{"proc", root + "/proc", "proc", mountNoSuid | mountNoDev | mountNoExec},
				{"tmpfs", root + "/dev", "tmpfs", mountNoSuid},
				{"sysfs", root + "/sys", "sysfs", mountReadOnly | mountNoSuid | mountNoDev | mountNoExec},
				{"/var/lib/kubelet/pods/" + c.pod.uid + "/etc-hosts", root + "/etc/hosts", "bind", mountBind},
			} {
				now = s.mount(runc, now, 0, of)
			}
			return now
		},
	})
}
