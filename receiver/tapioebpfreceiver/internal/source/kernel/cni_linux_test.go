// Copyright The otelcol-tapio Authors
// SPDX-License-Identifier: Apache-2.0

//go:build linux && (amd64 || arm64)

package kernel

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/cilium/ebpf"
	"github.com/cilium/ebpf/asm"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"golang.org/x/sys/unix"

	"github.com/tapio-io/otelcol-tapio/bpf"
	"github.com/tapio-io/otelcol-tapio/receiver/tapioebpfreceiver/internal/event"
	"github.com/tapio-io/otelcol-tapio/receiver/tapioebpfreceiver/internal/source"
)

const (
	pluginResult = `{"cniVersion":"1.0.0","ips":[{"address":"192.0.2.7/24"}]}`
	pluginError  = `{"cniVersion":"1.0.0","code":11,"msg":"try again later"}`
)

func init() {
	workloads["plugin"] = runPlugin
}

// runPlugin does what its arguments say, one after the other, as a plugin would.
func runPlugin(actions []string) error {
	for _, action := range actions {
		if err := pluginActions[action](); err != nil {
			return err
		}
	}
	return nil
}

var pluginActions = map[string]func() error{
	"result": func() error { _, err := os.Stdout.WriteString(pluginResult); return err },
	"error":  func() error { _, err := os.Stdout.WriteString(pluginError); return err },
	"error in pieces": func() error {
		for _, piece := range strings.SplitAfter(pluginError, ",") {
			if _, err := os.Stdout.WriteString(piece); err != nil {
				return err
			}
		}
		return nil
	},
	"error by writev": func() error {
		_, err := unix.Writev(1, [][]byte{[]byte(pluginError[:10]), {}, []byte(pluginError[10:])})
		return err
	},
	"error by another descriptor": func() error {
		fd, err := unix.Dup(1)
		if err != nil {
			return err
		}
		_, err = unix.Write(fd, []byte(pluginError))
		return err
	},
	"much":     func() error { _, err := os.Stdout.WriteString(strings.Repeat("0123456789abcdef", 512)); return err },
	"complain": func() error { _, err := os.Stderr.WriteString("this is for nobody\n"); return err },
	"write elsewhere": func() error {
		in, out, err := os.Pipe()
		if err != nil {
			return err
		}
		defer in.Close()
		defer out.Close()
		_, err = out.WriteString("this is for nobody")
		return err
	},
	"fail": func() error { os.Exit(3); return nil },
	"die":  func() error { return unix.Kill(os.Getpid(), unix.SIGKILL) },
	"child writes": func() error { // as a script's programs do
		child := exec.Command(os.Args[0], "error")
		child.Path, child.Stdout = "/proc/self/exe", os.Stdout
		return child.Run()
	},
	"delegate": func() error {
		child := exec.Command(filepath.Join(filepath.Dir(os.Args[0]), "host-local"), "error", "fail")
		child.Stdout = &strings.Builder{}
		err := child.Run()
		var exit *exec.ExitError
		if errors.As(err, &exit) {
			return nil
		}
		return fmt.Errorf("the delegate ended with %w", err)
	},
	"enter": func() error { // the namespace of its variable, and back
		runtime.LockOSThread()
		defer runtime.UnlockOSThread()
		own, err := os.Open("/proc/thread-self/ns/net")
		if err != nil {
			return err
		}
		defer own.Close()
		other, err := os.Open(os.Getenv("CNI_NETNS"))
		if err != nil {
			return err
		}
		defer other.Close()
		return errors.Join(unix.Setns(int(other.Fd()), unix.CLONE_NEWNET), unix.Setns(int(own.Fd()), unix.CLONE_NEWNET))
	},
	"replace": func() error { // itself by a program that is no plugin
		return unix.Exec("/proc/self/exe", []string{os.Args[0], "error", "fail"}, os.Environ())
	},
	"threads leave": func() error { // the last one is not the first
		runtime.LockOSThread()
		var wait sync.WaitGroup
		for range 8 {
			wait.Go(func() { runtime.LockOSThread(); time.Sleep(time.Millisecond) })
		}
		wait.Wait()
		return nil
	},
}

// pluginWorld is one with a directory of plugins.
type pluginWorld struct {
	*world
	dir string
}

// newPluginWorld has the same directory each time, so that worlds share a source.
func newPluginWorld(t testing.TB) pluginWorld { return pluginWorldBy(t, newWorld) }

func pluginWorldBy(t testing.TB, newOf func(testing.TB, func(*Options)) *world) pluginWorld {
	t.Helper()
	dir := filepath.Join(os.TempDir(), fmt.Sprintf("tapio-plugins-%d", os.Getpid()))
	require.NoError(t, os.Mkdir(dir, 0o755))
	t.Cleanup(func() { require.NoError(t, os.RemoveAll(dir)) })
	w := newOf(t, func(o *Options) {
		o.Families = []string{familyCNI}
		o.CNI = CNIOptions{PluginDirs: []string{"/opt/cni/bin", dir + "/"}, SyscallTracepoints: true}
	})
	self, err := os.Executable()
	require.NoError(t, err)
	for _, name := range []string{"bridge", "host-local"} {
		require.NoError(t, os.Symlink(self, filepath.Join(dir, name)))
	}
	return pluginWorld{w, dir}
}

// plugin is one as a runner starts it.
func (w pluginWorld) plugin(path string, variables []string, actions ...string) *exec.Cmd {
	command := w.command(path, actions...)
	command.Env = append([]string{"TAPIO_SECRET=not for us", workloadEnv + "=plugin"}, variables...)
	command.Stdout = &strings.Builder{} // a pipe
	command.Stderr = nil
	return command
}

var (
	addVariables = []string{
		"CNI_COMMAND=ADD", "CNI_CONTAINERID=abc", "CNI_NETNS=/proc/self/ns/net", "CNI_IFNAME=eth0",
		"CNI_ARGS=IgnoreUnknown=1;K8S_POD_NAME=web", "CNI_PATH=/opt/cni/bin", "CNICAL=1",
	}
	// keptVariables are those of them that are for us.
	keptVariables = strings.Join(addVariables[:5], "\x00") + "\x00"
)

// ran is a run of a plugin as it was told.
type ran struct {
	began event.CNIBegan
	ended event.CNIEnded
}

// awaitRuns waits for the ends of n plugins.
func (w pluginWorld) awaitRuns(n int) (runs []ran) {
	w.t.Helper()
	ends := map[uint32]event.CNIEnded{}
	for deadline := time.Now().Add(patience); len(w.ofType(event.TypeCNIEnded)) < n; time.Sleep(5 * time.Millisecond) {
		require.True(w.t, time.Now().Before(deadline), "%d ends of plugins; the programs have counted %+v", n, w.counters())
	}
	for _, record := range w.ofType(event.TypeCNIEnded) {
		ended, err := event.DecodeCNIEnded(record)
		require.NoError(w.t, err)
		ends[ended.Header.Pid] = ended
	}
	for _, record := range w.ofType(event.TypeCNIBegan) {
		began, err := event.DecodeCNIBegan(record)
		require.NoError(w.t, err)
		ended, ok := ends[began.Header.Pid]
		require.True(w.t, ok, "the end of %s", began.Path)
		assert.Equal(w.t, began.Header.StartTime, ended.Header.StartTime)
		assert.Equal(w.t, began.Header.Time, ended.Began)
		assert.Less(w.t, ended.Began, ended.Header.Time)
		runs = append(runs, ran{began, ended})
	}
	return runs
}

func TestPlugins(t *testing.T) {
	for _, tt := range []struct {
		name    string
		actions []string
		status  uint32
		output  string
		size    uint64
	}{
		{name: "success", actions: []string{"result"}, size: uint64(len(pluginResult))},
		{name: "failure", actions: []string{"error", "fail"}, status: 3 << 8, output: pluginError},
		{name: "failure told in pieces", actions: []string{"error in pieces", "fail"}, status: 3 << 8, output: pluginError},
		{name: "failure told by writev", actions: []string{"error by writev", "fail"}, status: 3 << 8, output: pluginError},
		{name: "failure told by another descriptor", actions: []string{"error by another descriptor", "fail"}, status: 3 << 8, output: pluginError},
		{name: "failure told by a child", actions: []string{"child writes", "fail"}, status: 3 << 8, output: pluginError},
		{name: "failure told at length", actions: []string{"much", "fail"}, status: 3 << 8, output: strings.Repeat("0123456789abcdef", 128), size: 8192},
		{name: "failure without a word", actions: []string{"complain", "write elsewhere", "fail"}, status: 3 << 8},
		{name: "killed", actions: []string{"error", "die"}, status: uint32(unix.SIGKILL), output: pluginError},
		{name: "replaced by another program", actions: []string{"replace"}, status: 3 << 8, output: pluginError},
		{name: "threads", actions: []string{"threads leave", "error", "fail"}, status: 3 << 8, output: pluginError},
	} {
		t.Run(tt.name, func(t *testing.T) {
			w := newPluginWorld(t)
			path := filepath.Join(w.dir, "bridge")
			command := w.plugin(path, addVariables, tt.actions...)
			err := command.Run()
			assert.Equal(t, tt.status != 0, err != nil, "%v", err)
			run := w.awaitRuns(1)[0]
			assert.Equal(t, path, string(run.began.Path))
			assert.Equal(t, keptVariables, string(run.began.Environment))
			assert.EqualValues(t, command.Process.Pid, run.began.Header.Pid)
			assert.EqualValues(t, os.Getpid(), run.began.Process.ParentPid)
			assert.EqualValues(t, ownNetns(t), run.began.Netns)
			assert.Zero(t, run.began.Flags)
			assert.Equal(t, tt.status, run.ended.Status)
			assert.Zero(t, run.ended.Netns)
			requireOutputs(t, w)
			assert.Equal(t, tt.output, string(run.ended.Output))
			assert.EqualValues(t, max(tt.size, uint64(len(tt.output))), run.ended.OutputSize)
			assert.Zero(t, run.ended.Flags)
		})
	}
}

// requireOutputs skips what is left of a test where this kernel shows no writes.
func requireOutputs(t *testing.T, w pluginWorld) {
	t.Helper()
	for _, c := range w.source.Capabilities() {
		if c.State == source.Attached && (strings.HasSuffix(c.Hook, "sys_write") || c.Hook == "tp_btf/sys_exit") {
			return
		}
	}
	t.Fatal("no hook for write(2)")
}

func ownNetns(t testing.TB) uint64 {
	t.Helper()
	return inodeOf(t, "/proc/self/ns/net")
}

func inodeOf(t testing.TB, path string) uint64 {
	t.Helper()
	var stat unix.Stat_t
	require.NoError(t, unix.Stat(path, &stat))
	return stat.Ino
}

func TestPluginDelegates(t *testing.T) {
	w := newPluginWorld(t)
	require.Error(t, w.plugin(filepath.Join(w.dir, "bridge"), addVariables, "delegate", "fail").Run())
	runs := w.awaitRuns(2)
	bridge, hostLocal := runs[0], runs[1]
	assert.Equal(t, bridge.began.Header.Pid, hostLocal.began.Process.ParentPid)
	assert.Equal(t, bridge.began.Header.StartTime, hostLocal.began.Process.ParentStartTime)
	assert.Equal(t, filepath.Join(w.dir, "host-local"), string(hostLocal.began.Path))
	assert.Equal(t, keptVariables, string(hostLocal.began.Environment))
	assert.Less(t, hostLocal.ended.Header.Time, bridge.ended.Header.Time)
	assert.Equal(t, pluginError, string(hostLocal.ended.Output))
	assert.Empty(t, string(bridge.ended.Output))
}

// What is no plugin's run gives nothing.
func TestNoPlugins(t *testing.T) {
	w := newPluginWorld(t)
	self, err := os.Executable()
	require.NoError(t, err)
	below := filepath.Join(w.dir, "below")
	require.NoError(t, os.Mkdir(below, 0o755))
	elsewhere := t.TempDir()
	for _, dir := range []string{below, elsewhere} {
		require.NoError(t, os.Symlink(self, filepath.Join(dir, "bridge")))
	}
	for name, command := range map[string]*exec.Cmd{
		"another directory":                w.plugin(filepath.Join(elsewhere, "bridge"), addVariables, "error", "fail"),
		"a directory below":                w.plugin(filepath.Join(below, "bridge"), addVariables, "error", "fail"),
		"without a command":                w.plugin(filepath.Join(w.dir, "bridge"), addVariables[1:], "error", "fail"),
		"with a command of something else": w.plugin(filepath.Join(w.dir, "bridge"), []string{"XCNI_COMMAND=ADD"}, "error", "fail"),
	} {
		require.Error(t, command.Run(), name)
	}
	// out of scope
	outside := commandIn(t, newCgroup(t, ""), filepath.Join(w.dir, "bridge"), "result")
	outside.Env = append(addVariables, workloadEnv+"=plugin")
	require.NoError(t, outside.Run())

	require.NoError(t, w.plugin(filepath.Join(w.dir, "host-local"), []string{"CNI_COMMAND=DEL"}, "result").Run())
	runs := w.awaitRuns(1)
	require.Len(t, runs, 1)
	assert.Equal(t, filepath.Join(w.dir, "host-local"), string(runs[0].began.Path))
	assert.Equal(t, "CNI_COMMAND=DEL\x00", string(runs[0].began.Environment))
	assert.EqualValues(t, 2, w.counters()[uint8(event.FamilyCNI)].Seen)
}

func TestScriptsArePlugins(t *testing.T) {
	w := newPluginWorld(t)
	shell, err := exec.LookPath("sh")
	require.NoError(t, err)
	script := filepath.Join(w.dir, "script")
	require.NoError(t, os.WriteFile(script, []byte("#!"+shell+"\necho '"+pluginError+"'\nexit 7\n"), 0o755))
	require.Error(t, w.plugin(script, addVariables).Run())
	run := w.awaitRuns(1)[0]
	assert.Equal(t, script, string(run.began.Path))
	assert.EqualValues(t, 7<<8, run.ended.Status)
	assert.Equal(t, pluginError+"\n", string(run.ended.Output))
}

// Environments that are long, or odd.
func TestPluginEnvironments(t *testing.T) {
	w := newPluginWorld(t)
	path := filepath.Join(w.dir, "bridge")
	many := make([]string, 400)
	for i := range many {
		many[i] = fmt.Sprintf("SERVICE_%d=%s", i, strings.Repeat("x", 3*i))
	}
	for _, tt := range []struct {
		name      string
		variables []string
		want      string
		flags     uint32
	}{
		{"many others before", append(append([]string{}, many...), "CNI_COMMAND=ADD"), "CNI_COMMAND=ADD\x00", 0},
		{"one at the limit of a piece", []string{"A=" + strings.Repeat("x", 1021), "CNI_COMMAND=ADD"}, "CNI_COMMAND=ADD\x00", 0},
		{"one beyond it", []string{"A=" + strings.Repeat("x", 1022), "CNI_COMMAND=ADD"}, "CNI_COMMAND=ADD\x00", 0},
		{"one with a command within", []string{"A=" + strings.Repeat("x", 1021) + "CNI_COMMAND=DEL", "CNI_COMMAND=ADD"}, "CNI_COMMAND=ADD\x00", 0},
		{"a long one", []string{"CNI_COMMAND=ADD", "CNI_ARGS=" + strings.Repeat("y", 2000)}, "CNI_COMMAND=ADD\x00CNI_ARGS=" + strings.Repeat("y", 1014) + "\x00", event.CNIVariableTruncated},
		{"not UTF-8", []string{"CNI_COMMAND=\xff\xfe"}, "CNI_COMMAND=\xff\xfe\x00", 0},
		{"empty", []string{"CNI_COMMAND=", "", "CNI_IFNAME="}, "CNI_COMMAND=\x00CNI_IFNAME=\x00", 0},
	} {
		t.Run(tt.name, func(t *testing.T) {
			before := len(w.ofType(event.TypeCNIEnded))
			require.NoError(t, w.plugin(path, tt.variables, "result").Run())
			runs := w.awaitRuns(before + 1)
			last := runs[len(runs)-1].began
			assert.Equal(t, tt.want, string(last.Environment))
			assert.Equal(t, tt.flags, last.Flags)
		})
	}
	t.Run("more than are looked at", func(t *testing.T) {
		long := []string{"CNI_COMMAND=ADD"}
		for i := range 3000 {
			long = append(long, fmt.Sprintf("V%d=", i))
		}
		before := len(w.ofType(event.TypeCNIEnded))
		require.NoError(t, w.plugin(path, append(long, "CNI_IFNAME=eth0"), "result").Run())
		runs := w.awaitRuns(before + 1)
		last := runs[len(runs)-1].began
		assert.Equal(t, "CNI_COMMAND=ADD\x00", string(last.Environment))
		assert.Equal(t, event.CNIEnvironmentTruncated, last.Flags)
	})
	t.Run("the same again and again", func(t *testing.T) {
		var same []string
		for range 20 {
			same = append(same, "CNI_COMMAND="+strings.Repeat("z", 900))
		}
		before := len(w.ofType(event.TypeCNIEnded))
		command := w.plugin(path, nil, "result")
		require.NoError(t, runWithExactly(command, append(same, workloadEnv+"=plugin")))
		runs := w.awaitRuns(before + 1)
		last := runs[len(runs)-1].began
		assert.Equal(t, event.CNIEnvironmentTruncated, last.Flags)
		assert.Less(t, len(last.Environment), 8192)
		assert.Greater(t, len(last.Environment), 6000)
	})
}

// runWithExactly these variables: os/exec takes out what is there twice.
func runWithExactly(command *exec.Cmd, variables []string) error {
	process, err := os.StartProcess(command.Path, command.Args, &os.ProcAttr{Env: variables, Sys: command.SysProcAttr, Files: []*os.File{nil, nil, os.Stderr}})
	if err != nil {
		return err
	}
	state, err := process.Wait()
	if err == nil && !state.Success() {
		return errors.New(state.String())
	}
	return err
}

// What a plugin prints to something that others write to, too, is not kept.
func TestPluginOutputThatIsNoPipe(t *testing.T) {
	w := newPluginWorld(t)
	file, err := os.Create(filepath.Join(t.TempDir(), "file"))
	require.NoError(t, err)
	defer file.Close()
	command := w.plugin(filepath.Join(w.dir, "bridge"), addVariables, "error", "fail")
	command.Stdout = file
	require.Error(t, command.Run())
	run := w.awaitRuns(1)[0]
	assert.EqualValues(t, 3<<8, run.ended.Status)
	assert.Empty(t, run.ended.Output)
	assert.Zero(t, run.ended.OutputSize)
}

// A plugin's pipe is its own and its children's.
func TestOthersDoNotWriteForPlugins(t *testing.T) {
	w := newPluginWorld(t)
	in, out, err := os.Pipe()
	require.NoError(t, err)
	defer in.Close()
	defer out.Close()
	other := w.workload("plugin", "error")
	other.Stdout = out
	plugin := w.plugin(filepath.Join(w.dir, "bridge"), addVariables, "die later")
	plugin.Stdout = out
	hold, err := plugin.StdinPipe()
	require.NoError(t, err)
	require.NoError(t, plugin.Start())
	w.await(event.TypeCNIBegan, 1)
	require.NoError(t, other.Run())
	require.NoError(t, hold.Close())
	require.Error(t, plugin.Wait())
	assert.Empty(t, w.awaitRuns(1)[0].ended.Output)
}

func init() {
	pluginActions["die later"] = func() error {
		_, _ = os.Stdin.Read(make([]byte, 1))
		os.Exit(3)
		return nil
	}
}

func TestPluginEntersANamespace(t *testing.T) {
	w := newPluginWorld(t)
	talker := startTalker(t, workloadIn(t, newCgroup(t, ""), "inNewNetns"))
	path := talker.hear()
	variables := []string{"CNI_COMMAND=ADD", "CNI_NETNS=" + path}
	require.NoError(t, w.plugin(filepath.Join(w.dir, "bridge"), variables, "enter", "result").Run())
	run := w.awaitRuns(1)[0]
	assert.EqualValues(t, inodeOf(t, path), run.ended.Netns)
	talker.end()
}

func init() {
	workloads["inNewNetns"] = func([]string) error {
		runtime.LockOSThread()
		if err := unix.Unshare(unix.CLONE_NEWNET); err != nil {
			return err
		}
		fmt.Printf("/proc/%d/task/%d/ns/net\n", os.Getpid(), unix.Gettid())
		_, _ = os.Stdin.Read(make([]byte, 1))
		return nil
	}
	workloads["newNetnsThread"] = func([]string) error { // as container runtimes make them
		runtime.LockOSThread() // and never unlock: the thread ends
		if err := unix.Unshare(unix.CLONE_NEWNET); err != nil {
			return err
		}
		fmt.Println(netnsOfThread())
		return nil
	}
	workloads["cloneNetns"] = func([]string) error {
		child := exec.Command("/proc/self/exe")
		child.Env = append(os.Environ(), workloadEnv+"=tellNetns")
		child.Stdout = os.Stdout
		child.SysProcAttr = &syscall.SysProcAttr{Cloneflags: unix.CLONE_NEWNET}
		return child.Run()
	}
	workloads["tellNetns"] = func([]string) error {
		fmt.Println(netnsOfThread())
		return nil
	}
	workloads["noNetns"] = func([]string) error {
		runtime.LockOSThread()
		return unix.Unshare(unix.CLONE_NEWUTS)
	}
}

func netnsOfThread() uint64 {
	var stat unix.Stat_t
	if err := unix.Stat("/proc/thread-self/ns/net", &stat); err != nil {
		return 0
	}
	return stat.Ino
}

// Network namespaces are told when they are made, and removed where this kernel says so.
func TestNetworkNamespaces(t *testing.T) {
	w := newPluginWorld(t)
	require.NoError(t, w.workload("noNetns").Run())
	made := 0
	for _, workload := range []string{"newNetnsThread", "cloneNetns"} {
		t.Run(workload, func(t *testing.T) {
			var told strings.Builder
			command := w.workload(workload)
			command.Stdout = &told
			require.NoError(t, command.Run())
			made++
			records := w.await(event.TypeCNINetnsMade, made)
			require.Len(t, records, made)
			namespace := decodedNamespace(t, records[made-1])
			assert.Equal(t, strings.TrimSpace(told.String()), fmt.Sprint(namespace.Inode))
			assert.EqualValues(t, command.Process.Pid, namespace.Header.Pid)
			assert.EqualValues(t, os.Getpid(), namespace.Process.ParentPid)
			assert.Zero(t, namespace.Error)
			assert.Zero(t, namespace.Made)
			if !isAttached(w, "fentry/__put_net") {
				assert.Empty(t, w.ofType(event.TypeCNINetnsRemoved))
				return
			}
			removed := decodedNamespace(t, w.await(event.TypeCNINetnsRemoved, made)[made-1])
			assert.Equal(t, namespace.Inode, removed.Inode)
			assert.Equal(t, namespace.Header.CgroupId, removed.Header.CgroupId)
			assert.NotZero(t, removed.Made)
			assert.Greater(t, removed.Header.Time, removed.Made)
			assert.Zero(t, removed.Header.Pid)
		})
	}
}

// The most that may be are a limit of a user namespace; at it, none can be made.
func TestNetworkNamespacesThatCannotBeMade(t *testing.T) {
	w := newPluginWorld(t)
	require.NoError(t, w.workload("noRoomForNetns").Run())
	namespace := decodedNamespace(t, w.await(event.TypeCNINetnsMade, 1)[0])
	assert.EqualValues(t, unix.ENOSPC, namespace.Error)
	assert.Zero(t, namespace.Inode)
}

func init() {
	workloads["noRoomForNetns"] = func([]string) error {
		child := exec.Command("/proc/self/exe")
		child.Env = append(os.Environ(), workloadEnv+"=noRoomInUserns")
		child.Stderr = os.Stderr
		child.SysProcAttr = &syscall.SysProcAttr{
			Cloneflags:  unix.CLONE_NEWUSER,
			UidMappings: []syscall.SysProcIDMap{{HostID: 0, Size: 1}},
			GidMappings: []syscall.SysProcIDMap{{HostID: 0, Size: 1}},
		}
		return child.Run()
	}
	workloads["noRoomInUserns"] = func([]string) error {
		if err := os.WriteFile("/proc/sys/user/max_net_namespaces", []byte("0"), 0); err != nil {
			return err
		}
		runtime.LockOSThread()
		if err := unix.Unshare(unix.CLONE_NEWNET); !errors.Is(err, unix.ENOSPC) {
			return fmt.Errorf("unshare: %w", err)
		}
		return nil
	}
}

func decodedNamespace(t *testing.T, record []byte) *bpf.WireCniNamespace {
	t.Helper()
	namespace, err := event.DecodeCNINamespace(record)
	require.NoError(t, err)
	return namespace
}

func isAttached(w pluginWorld, hook string) bool {
	for _, c := range w.source.Capabilities() {
		if c.Hook == hook {
			return c.State == source.Attached
		}
	}
	return false
}

// isEmpty says that a map has no entry.
func (w pluginWorld) isEmpty(name string) bool {
	entries := w.source.mapNamed(name).Iterate()
	var key uint32
	value := make([]byte, w.source.mapNamed(name).ValueSize())
	return !entries.Next(&key, &value)
}

// Plugins run and end; nothing of them stays in the programs' tables.
func TestPluginsLeaveNothingBehind(t *testing.T) {
	w := newPluginWorld(t)
	const plugins = 40
	var wait sync.WaitGroup
	for i := range plugins {
		command := w.plugin(filepath.Join(w.dir, "bridge"), addVariables, "error", "fail")
		command.Args[1] = []string{"error", "result"}[i%2]
		wait.Go(func() { _ = command.Run() })
	}
	wait.Wait()
	ofCNI := func() source.Counters { return w.counters()[uint8(event.FamilyCNI)] }
	var begun, ended int
	require.Eventually(t, func() bool {
		begun, ended = len(w.ofType(event.TypeCNIBegan)), len(w.ofType(event.TypeCNIEnded))
		row := ofCNI()
		return w.isEmpty("runs") && w.isEmpty("outputs") && row.Seen == uint64(2*begun) && row.Unreadable == uint64(begun-ended)
	}, patience, 5*time.Millisecond, "each that has begun has ended, and is told or counted")
	missed := w.missedRuns() // by a kernel that preempts programs
	assert.LessOrEqual(t, uint64(plugins-begun), missed["tp_btf/sched_process_exec"])
	assert.LessOrEqual(t, uint64(begun-ended), missed["tp_btf/sched_process_exit"])
	var running uint64
	require.NoError(t, w.source.mapNamed("running").Lookup(uint32(0), &running))
	assert.Zero(t, running)
}

// A plugin whose end no program was run for is forgotten when the kernel lets go of it, and in the account.
func TestPluginsWhoseEndIsMissed(t *testing.T) {
	at := objectOf(familyCNI)
	known := objects[at].load
	t.Cleanup(func() { objects[at].load = known })
	objects[at].load = func() (*ebpf.CollectionSpec, error) {
		spec, err := known()
		if err != nil {
			return nil, err
		}
		for _, name := range []string{"plugin_exited", "plugin_exit_missed"} {
			spec.Programs[name].Instructions = asm.Instructions{asm.Mov.Imm(asm.R0, 0), asm.Return()}
		}
		return spec, nil
	}
	w := pluginWorldBy(t, newOwnWorld)
	const plugins = 3
	for range plugins {
		require.NoError(t, w.plugin(filepath.Join(w.dir, "bridge"), addVariables, "result").Run())
	}
	require.Eventually(t, func() bool { return w.isEmpty("runs") && w.isEmpty("outputs") }, patience, 5*time.Millisecond)
	assert.Len(t, w.ofType(event.TypeCNIBegan), plugins)
	assert.Empty(t, w.ofType(event.TypeCNIEnded))
	row := w.counters()[uint8(event.FamilyCNI)]
	assert.EqualValues(t, 2*plugins, row.Seen)
	assert.EqualValues(t, plugins, row.Unreadable)
}
