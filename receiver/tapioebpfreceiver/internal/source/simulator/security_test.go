// Copyright The otelcol-tapio Authors
// SPDX-License-Identifier: Apache-2.0

package simulator

import (
	"bytes"
	"slices"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"go.uber.org/zap"

	"github.com/tapio-io/otelcol-tapio/receiver/tapioebpfreceiver/internal/event"
	"github.com/tapio-io/otelcol-tapio/receiver/tapioebpfreceiver/internal/source/kernel"
)

func actedOf(t testing.TB, record []byte) event.SecurityAction {
	t.Helper()
	a, err := event.DecodeSecurityAction(record)
	require.NoError(t, err)
	return a
}

func kindOf(a *event.SecurityAction) event.SecurityKind { return event.SecurityKind(a.Kind) }

// fileOf an action; empty: none.
func fileOf(a *event.SecurityAction) string {
	if !a.HasPath() {
		return ""
	}
	return string(a.AppendPath(nil))
}

// security is of who is there, with the credentials that they have.
func (c *checker) security(header *event.Header, record []byte) {
	a, who := actedOf(c, record), key{header.Pid, header.StartTime}
	require.Equal(c, isSeenAtExec(kindOf(&a)), a.Operation == uint16(event.OperationNone))
	require.Equal(c, header.Pid, a.Thread)
	require.Zero(c, a.BaseSize, "all paths are absolute")
	isAsked := kindOf(&a) == event.SecurityFileAccess && a.Denied() || kindOf(&a) == event.SecuritySetuidBit
	hasPath := a.PathSize > 0 || kindOf(&a) == event.SecurityMount // of / there is nothing to tell
	require.Equal(c, hasPath && !isAsked, a.Has(event.SecurityPathResolved), "what was found, where something was found")
	if kindOf(&a) == event.SecurityCredentials {
		require.True(c, a.Has(event.SecurityHasCredentials))
		require.Equal(c, a.Denied(), a.Before == a.After)
		require.Equal(c, c.users[who], user{a.Before.Uid, a.Before.Euid})
		c.users[who] = user{a.After.Uid, a.After.Euid}
	}
	require.Equal(c, c.users[who], user{a.Process.Uid, a.Process.Euid})
	if a.Has(event.SecurityHasTarget) {
		require.Equal(c, header.CgroupId, c.alive[key{a.TargetPid, a.TargetStartTime}], "it sees those of its container")
	}
	if a.Process.Euid != 0 && a.Error == 0 {
		require.False(c, slices.Contains([]string{shadow, sudoers, kubeletKey}, fileOf(&a)), "%s is root's", fileOf(&a))
	}
}

func isSeenAtExec(kind event.SecurityKind) bool {
	return kind == event.SecuritySetuidExec || kind == event.SecurityFilelessExec || kind == event.SecurityShellOnSocket
}

// step of the attack, as its record tells.
type step struct {
	kind   event.SecurityKind
	errno  int32
	uid    uint32
	euid   uint32
	object string // file, or the first value
}

// TestTheAttack is one story: every step has its cause before it, and all of them are of one tree of processes.
func TestTheAttack(t *testing.T) {
	o := options(5)
	o.Scenarios.Attack = 1
	s := newSource(t, o)
	story := followAttack(t, s)
	pod := story.root.pod
	assert.Equal(t, []step{
		{event.SecurityShellOnSocket, 0, userShop, userShop, "/usr/bin/bash"},
		{event.SecurityFileAccess, 0, userShop, userShop, pod.token},
		{event.SecurityFileAccess, errorAccess, userShop, userShop, "/etc/shadow"},
		{event.SecurityFilelessExec, 0, userShop, userShop, "/memfd:agent"},
		{event.SecurityPtrace, 0, userShop, userShop, ""},
		{event.SecurityMemoryWrite, 0, userShop, userShop, ""},
		{event.SecurityMemoryWrite, 0, userShop, userShop, ""},
		{event.SecurityMemoryWrite, 0, userShop, userShop, ""},
		{event.SecurityCredentials, errorPermission, userShop, userShop, ""},
		{event.SecurityCredentials, 0, 0, 0, ""},
		{event.SecuritySetuidExec, 0, userShop, 0, "/usr/bin/sudo"},
		{event.SecurityFileAccess, 0, userShop, 0, "/etc/sudoers"},
		{event.SecurityCredentials, 0, userShop, 0, ""},
		{event.SecurityCredentials, 0, 0, 0, ""},
		{event.SecurityFileAccess, 0, 0, 0, "/etc/shadow"},
		{event.SecuritySetuidBit, 0, 0, 0, "/var/tmp/.cache/sh"},
		{event.SecurityRawSocket, 0, 0, 0, ""},
		{event.SecurityMount, errorPermission, 0, 0, "/mnt"},
		{event.SecurityModuleLoad, errorPermission, 0, 0, ""},
		{event.SecurityBPF, errorPermission, 0, 0, ""},
		{event.SecurityKernelLog, errorPermission, 0, 0, ""},
		{event.SecurityKexec, errorPermission, 0, 0, ""},
		{event.SecurityNamespace, 0, 0, 0, ""},
		{event.SecurityNamespace, 0, 0, 0, ""},
		{event.SecurityMount, 0, 0, 0, "/"},
		{event.SecurityMount, 0, 0, 0, "/tmp"},
	}, story.steps)
	assert.Equal(t, pod.server.pid, story.root.parent)
	assert.Less(t, story.connected, story.executed["bash"], "its standard input is there before it starts")
	assert.Equal(t, []string{"python3.12", "bash", "id", "cat", "cat", "memfd:agent", "python3.12", "perl", "sudo", "bash", "cat", "chmod", "python3.12", "escape", "escape", "wget"}, story.programs)
	for _, family := range []event.Family{event.FamilyNetwork, event.FamilyDNS} {
		assert.Positive(t, story.families[family], "data goes out: %v", family)
	}

	first := story.actions[0]
	assert.Equal(t, outside[:], first.Text)
	assert.Equal(t, [4]uint64{4444, familyInet}, first.Values)
	ptrace, write := story.actions[4], story.actions[5]
	assert.Equal(t, pod.server.pid, ptrace.TargetPid)
	assert.Equal(t, pod.server.start, ptrace.TargetStartTime)
	assert.Equal(t, [4]uint64{ptraceAttach, 1}, ptrace.Values)
	assert.Equal(t, [4]uint64{4096, 1}, write.Values, "as it numbers the container's first process")
	setuid := story.actions[9]
	assert.EqualValues(t, userShop, setuid.Before.Suid)
	assert.Equal(t, [2]uint64{capabilitySetuid, capabilitySetuid}, [2]uint64{setuid.Before.Permitted, setuid.After.Permitted})
	sudo := story.actions[10]
	assert.True(t, sudo.Has(event.SecurityHasAfter))
	assert.EqualValues(t, containerCapabilities, sudo.After.Permitted, "no more than the container's root has")
	assert.Equal(t, "/dev/vda1\x00ext4\x00", string(story.actions[17].Text))
}

type attackStory struct {
	root struct {
		pod    *pod
		parent uint32
	}
	executed  map[string]uint64 // when a program was started first
	connected uint64
	steps     []step
	actions   []event.SecurityAction
	programs  []string
	families  map[event.Family]int
}

// followAttack reads the first one to its end, and fails if anything that it does is of a process that is not in its
// tree, or not alive.
func followAttack(t *testing.T, s *Source) (story attackStory) {
	t.Helper()
	pods := map[uint32]*pod{}
	for _, p := range s.world.services["cart"].pods {
		pods[p.server.pid] = p
	}
	story.families, story.executed = map[event.Family]int{}, map[string]uint64{}
	tree, root, ended := map[uint32]bool{}, uint32(0), false
	handle := func(record []byte) {
		header, err := event.DecodeHeader(record)
		require.NoError(t, err)
		kind := event.Type(header.Type)
		if kind == event.TypeProcessFork && !ended {
			e, err := event.DecodeProcessFork(record)
			require.NoError(t, err)
			parent := e.Process.ParentPid
			if root == 0 && pods[parent] != nil {
				root = header.Pid
				story.root.pod, story.root.parent = pods[parent], parent
			}
			if header.Pid == root || tree[parent] {
				tree[header.Pid] = true
			}
		}
		if !tree[header.Pid] {
			return
		}
		story.add(t, kind, header, bytes.Clone(record))
		if kind == event.TypeProcessExit {
			delete(tree, header.Pid)
			ended = ended || header.Pid == root
			if ended {
				require.Empty(t, tree, "whoever it started has ended before")
			}
		}
	}
	for !ended {
		require.NoError(t, s.Read(handle))
	}
	return story
}

func (story *attackStory) add(t *testing.T, kind event.Type, header *event.Header, record []byte) {
	story.families[kind.Family()]++
	switch kind {
	case event.TypeConnectionConnect:
		if story.connected == 0 {
			story.connected = header.Time
		}
	case event.TypeProcessExec:
		e, err := event.DecodeProcessExec(record)
		require.NoError(t, err)
		name, _, _ := bytes.Cut(e.Exe, []byte{0})
		if story.executed[string(name)] == 0 {
			story.executed[string(name)] = header.Time
		}
		story.programs = append(story.programs, string(name))
		assert.Equal(t, string(name) == "memfd:agent", e.Flags&event.ExecExeUnlinked != 0)
	case event.TypeSecurityAction:
		a := actedOf(t, record)
		story.actions = append(story.actions, a)
		story.steps = append(story.steps, step{kindOf(&a), a.Error, a.Process.Uid, a.Process.Euid, fileOf(&a)})
	}
}

func watchOf(t testing.TB, patterns ...string) watched {
	t.Helper()
	w, err := watch(kernel.SecurityOptions{Paths: patterns})
	require.NoError(t, err)
	return w
}

// What a node does all day has something of each of these; what only an attack has, it has not.
func TestOrdinaryActions(t *testing.T) {
	o := options(2)
	o.Scenarios.Attack = 0
	found := map[event.SecurityKind]int{}
	opened, denied := map[string]int{}, map[string]int{}
	for _, record := range readSome(t, newSource(t, o), 60_000) {
		if familyOf(t, record) != event.FamilySecurity {
			continue
		}
		a := actedOf(t, record)
		found[kindOf(&a)]++
		if kindOf(&a) != event.SecurityFileAccess {
			continue
		}
		if a.Denied() {
			assert.Equal(t, [4]uint64{openFlags, 0, 0, noSensitivePath}, a.Values, "only what was opened is known")
			denied[fileOf(&a)]++
			continue
		}
		which := sensitivePaths[a.Values[3]]
		assert.True(t, fits(watchOf(t, which).paths[0], strings.Split(fileOf(&a)[1:], "/")), "%s is no %s", fileOf(&a), which)
		assert.NotZero(t, a.Values[1])
		opened[which]++
	}
	for _, kind := range []event.SecurityKind{
		event.SecurityFileAccess, event.SecurityCredentials, event.SecuritySetuidExec, event.SecurityNamespace, event.SecurityMount,
		event.SecurityBPF, event.SecurityRawSocket,
	} {
		assert.Positive(t, found[kind], kind)
		delete(found, kind)
	}
	assert.Empty(t, found)
	for _, path := range []string{shadow, "/etc/ssl/private/", "/run/secrets/kubernetes.io/serviceaccount/", "/var/lib/kubelet/pki/"} {
		assert.Positive(t, opened[path], path)
	}
	for _, path := range []string{shadow, sudoers, "/etc/gshadow", "/etc/ssh/ssh_host_ed25519_key"} {
		assert.Positive(t, denied[path], path)
	}
}

// Only what the config asks for is made, as only that would be reported by a kernel; the rest goes on as ever.
func TestActionsThatNobodyAsksFor(t *testing.T) {
	o := options(2)
	o.Scenarios.Attack = 0.1
	o.Security.Kinds = slices.DeleteFunc(event.SecurityKinds(), func(kind event.SecurityKind) bool { return kind == event.SecurityCredentials })
	o.Security.Paths = []string{"/etc/ssl/private/"}
	seen := map[event.SecurityKind]int{}
	for _, record := range readSome(t, newSource(t, o), 20_000) {
		if familyOf(t, record) != event.FamilySecurity {
			continue
		}
		a := actedOf(t, record)
		seen[kindOf(&a)]++
		if kindOf(&a) == event.SecurityFileAccess && !a.Denied() {
			assert.True(t, strings.HasPrefix(fileOf(&a), "/etc/ssl/private/"), fileOf(&a))
		}
	}
	assert.Positive(t, seen[event.SecurityFileAccess])
	assert.Positive(t, seen[event.SecurityMount])
	assert.Zero(t, seen[event.SecurityCredentials])
}

func TestAFamilyWithNothingToTell(t *testing.T) {
	o := options(2)
	o.Security = kernel.SecurityOptions{}
	s := newSource(t, o)
	records := readSome(t, s, 40_000)
	counts := map[event.Family]float64{}
	for _, record := range records {
		counts[familyOf(t, record)]++
	}
	assert.Zero(t, counts[event.FamilySecurity])
	all := float64(len(records)) - counts[event.FamilyCgroup]
	for family, weight := range weights {
		if family != event.FamilySecurity {
			assert.InDelta(t, weight/(101-13), counts[family]/all, 0.02, "%v", family)
		}
	}
	assert.InEpsilon(t, unlimitedRate, all/(float64(s.now.Load()-firstBoot)/1e9), 0.02)

	o.Families = []string{"security"}
	s = newSource(t, o)
	before := s.Wall()
	require.NoError(t, s.Read(func([]byte) { t.Error("a record of what nobody asked for") }))
	assert.True(t, s.Wall().After(before), "time goes on")
}

func TestPathsThatFit(t *testing.T) {
	for _, tt := range []struct {
		pattern string
		fit     []string
		not     []string
	}{
		{"/etc/shadow", []string{"/etc/shadow"}, []string{"/etc", "/etc/shadow-", "/etc/shadow/x", "/x/etc/shadow", "/shadow"}},
		{"/etc/ssl/private/", []string{"/etc/ssl/private/a", "/etc/ssl/private/a/b"}, []string{"/etc/ssl/private", "/etc/ssl/a", "/x/etc/ssl/private/a"}},
		{"**/.aws/credentials", []string{"/.aws/credentials", "/root/.aws/credentials", "/a/b/.aws/credentials"}, []string{"/.aws/credentials/x", "/credentials", "/.aws/x"}},
		{"**/.ssh/", []string{"/root/.ssh/id", "/.ssh/a/b", "/home/a/.ssh/b/c"}, []string{"/root/.ssh", "/ssh/a"}},
	} {
		pattern := watchOf(t, tt.pattern).paths[0]
		for _, path := range tt.fit {
			assert.True(t, fits(pattern, strings.Split(path[1:], "/")), "%s %s", tt.pattern, path)
		}
		for _, path := range tt.not {
			assert.False(t, fits(pattern, strings.Split(path[1:], "/")), "%s %s", tt.pattern, path)
		}
	}
	w := watchOf(t, "/a/", "/a/b")
	number, found := w.number("/a/b")
	assert.True(t, found)
	assert.Zero(t, number, "the first one")
	_, found = w.number("/b")
	assert.False(t, found)

	o := options(1)
	o.Security.Paths = []string{"relative"}
	_, err := New(o, zap.NewNop())
	assert.EqualError(t, err, `path "relative" must begin with / or **/`)
}
