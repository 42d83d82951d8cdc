// Copyright The otelcol-tapio Authors
// SPDX-License-Identifier: Apache-2.0

package translate // import "github.com/tapio-io/otelcol-tapio/receiver/tapioebpfreceiver/internal/translate"

import (
	"path"
	"slices"
	"strings"

	"github.com/tapio-io/otelcol-tapio/bpf"
	"github.com/tapio-io/otelcol-tapio/receiver/tapioebpfreceiver/internal/event"
	"github.com/tapio-io/otelcol-tapio/receiver/tapioebpfreceiver/internal/identity"
)

// PathPattern is an absolute path; with a slash at the end all below it; with **/ before it at any depth.
type PathPattern string

// Matches says whether a path is one of those.
func (p PathPattern) Matches(path string) bool {
	rest, anyDepth := strings.CutPrefix(string(p), "**")
	below := strings.HasSuffix(rest, "/")
	switch {
	case anyDepth && below:
		return strings.Contains(path, rest)
	case anyDepth:
		return strings.HasSuffix(path, rest)
	case below:
		return strings.HasPrefix(path, rest)
	default:
		return path == rest
	}
}

func matchesAny(patterns []PathPattern, path string) bool {
	return path != "" && slices.ContainsFunc(patterns, func(p PathPattern) bool { return p.Matches(path) })
}

// SecurityAllow says whose actions a rule leaves out. One of them is enough.
type SecurityAllow struct {
	// Executables of the process, wherever it runs: a path in a container is the container's own.
	Executables []PathPattern
	// HostExecutables are those of programs that were started outside of containers.
	HostExecutables []PathPattern
	// HostParents are those of the parents of such programs, which are started outside of containers, too.
	HostParents []PathPattern
	// Users are real user ids, of the host's user namespace.
	Users []uint32
	// Containers are names, as Kubernetes has them, or ids, of which the first 12 digits are enough.
	Containers []string
	// Namespaces of Kubernetes.
	Namespaces []string
	// Readers says whether those of a sensitive path may open it.
	Readers bool
}

// minContainerID is how many digits of a container's id name it, as runtimes show them.
const minContainerID = 12

func (s *security) isAllowed(a *action) bool {
	allow := &a.rule.Allow
	switch {
	case slices.Contains(allow.Users, a.Process.Uid),
		a.isIn(allow),
		matchesAny(allow.Executables, a.executable()), a.starts() && matchesAny(allow.Executables, a.path),
		allow.Readers && s.isReader(a):
		return true
	case !isOnHost(a.process):
		return false
	default:
		return matchesAny(allow.HostExecutables, a.executable()) ||
			a.starts() && matchesAny(allow.HostExecutables, a.path) ||
			len(allow.HostParents) > 0 && s.isParentAllowed(a)
	}
}

// isIn says whether it is in a container, or a namespace, that the rule allows.
func (a *action) isIn(allow *SecurityAllow) bool {
	owner := &a.resource.Owner
	if owner.Pod != nil && slices.Contains(allow.Namespaces, owner.Pod.Namespace) {
		return true
	}
	return slices.ContainsFunc(allow.Containers, func(name string) bool {
		isName := owner.Container != nil && owner.Container.Name == name
		return isName || len(name) >= minContainerID && strings.HasPrefix(owner.ContainerID, name)
	})
}

// executable of the process. That of a file without a name is none: it can have any.
func (a *action) executable() string {
	if a.process == nil || a.process.Exec.Flags&event.ExecExeUnlinked != 0 {
		return ""
	}
	return a.process.Resource.Path
}

// starts says that the path is that of a program which is started, so that by now it may be the process's.
func (a *action) starts() bool {
	return (a.Is(event.SecurityShellOnSocket) || a.Is(event.SecuritySetuidExec)) && a.Has(event.SecurityPathResolved) && !a.Has(event.SecurityUnlinked)
}

// isOnHost says that what a process runs was started outside of containers. What a runtime starts in a
// container is, until it starts a program there.
func isOnHost(p *identity.Process) bool {
	switch {
	case p == nil:
		return false
	case p.Program != nil:
		return !p.Program.Contained
	default:
		return p.Resource.IsHost()
	}
}

func (s *security) isParentAllowed(a *action) bool {
	parent := s.index.Parent(a.process)
	return parent != nil && isOnHost(parent) && matchesAny(a.rule.Allow.HostParents, parent.Resource.Path)
}

// isReader says that the process opens this path as a matter of course.
func (s *security) isReader(a *action) bool {
	switch {
	case a.at == nil || a.process == nil:
		return false
	case isOnHost(a.process):
		return matchesAny(a.at.Readers, a.executable())
	default:
		return a.at.FirstProgram && isFirst(a.process)
	}
}

// isFirst says that a process runs the program that its container was started for.
func isFirst(p *identity.Process) bool {
	if p.Program != nil {
		return p.Program.IsFirst
	}
	return p.VPID == 1
}

// sensitivePath of the list that was opened. What is played or simulated has numbers of another list, and an open
// that was refused has none: the kernel side reports all of these, with the names that were asked for.
func (s *security) sensitivePath(a *action) *SensitivePath {
	if !a.Is(event.SecurityFileAccess) {
		return nil
	}
	paths := s.options.Paths
	if number := a.Values[3]; s.builder.describe.Source == sourceKernel && number < uint64(len(paths)) {
		return &paths[number]
	}
	name := a.path
	if !a.Has(event.SecurityPathResolved) && name != "" {
		name = path.Clean(name) // without following links
	}
	for i := range paths {
		if paths[i].Pattern.Matches(name) {
			return &paths[i]
		}
	}
	return nil
}

// sourceKernel is tapio.source of what this node's kernel says.
const sourceKernel = "ebpf"

// isWorthIt says whether an action is one that the rule is about: of some the kernel side reports more.
func (s *security) isWorthIt(a *action) bool {
	switch a.kind {
	case event.SecurityFileAccess:
		return a.at != nil
	case event.SecurityCredentials:
		return s.options.EveryCredentialChange || a.Denied() || gainsPrivilege(&a.SecurityAction)
	case event.SecurityShellOnSocket:
		return s.isShell(a.path)
	default:
		return true
	}
}

func (s *security) isShell(executable string) bool {
	name := path.Base(executable)
	return slices.ContainsFunc(s.options.Shells, func(shell string) bool {
		if strings.Contains(shell, "/") {
			return PathPattern(shell).Matches(executable)
		}
		return shell == name
	})
}

// gainsPrivilege says that a process has more than before: root, or a capability that it did not have, be it
// only permitted. One that goes back to what it had kept aside has not. Where it is not known what it had, it is
// a gain if it has any now.
func gainsPrivilege(e *event.SecurityAction) bool {
	switch {
	case e.Has(event.SecurityHasCredentials):
		return isRoot(&e.After) && !isRoot(&e.Before) || e.After.Permitted&^e.Before.Permitted != 0
	case e.Has(event.SecurityHasAfter):
		return isRoot(&e.After) || e.After.Permitted != 0
	default:
		return true
	}
}

// isRoot says that one of its user ids is 0, so that it can be root when it wants to.
func isRoot(c *bpf.WireCredentials) bool {
	return c.Uid == 0 || c.Euid == 0 || c.Suid == 0 || c.Fsuid == 0
}
