// Copyright The otelcol-tapio Authors
// SPDX-License-Identifier: Apache-2.0

//go:build linux

package e2e

import (
	"bufio"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"math/rand/v2"
	"net"
	"net/http"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"golang.org/x/net/dns/dnsmessage"

	"github.com/tapio-io/otelcol-tapio/internal/porttest"
)

func init() {
	workloads["hog"] = hog
	workloads["onCommand"] = onCommand
	workloads["askSlowly"] = askSlowly
	workloads["search"] = search
	workloads["askEach"] = askEach
}

// comparedWorkload is what the simulator tells of, done for real: servers in pods that are older than the
// collector, as the simulated ones are, and what others do then, in pods and in a unit of systemd.
type comparedWorkload struct {
	scope, unit     cgroup
	pods            []cgroup
	nginx, upstream *server
	names, silent   string // addresses of name servers, of which the second never answers
	older           []*process
	network         *network // of the pods that are asked from another node, and ask there
	here, there     string   // addresses of servers, of which the second is on another node
	elsewhere       *network // of the other node
}

const comparedPods = 4

// comparedRounds are enough for what happens by chance, such as an exit before the first tick.
const comparedRounds = 8

func newComparedWorkload(t *testing.T) *comparedWorkload {
	t.Helper()
	w := &comparedWorkload{scope: newCgroup(t)}
	w.unit = w.scope.below(t, "system.slice", "cron.service")
	burstable := w.scope.below(t, "kubepods.slice", "kubepods-burstable.slice")
	for n := range comparedPods {
		w.pods = append(w.pods, burstable.below(t,
			fmt.Sprintf("kubepods-burstable-pod2c48913c_b29f_11e7_9350_02096814779%d.slice", n), "cri-containerd-"+hexID(n)+".scope"))
	}
	w.upstream = w.pods[0].startGoServer(t, "tcp4")
	w.nginx = w.pods[1].startNginx(t, w.upstream.port)
	w.names = fmt.Sprintf("127.77.%d.%d", rand.N(250), rand.N(250)+1)
	w.pods[2].startNameServer(t, w.names, 53)
	w.silent = w.startSilentServer(t)
	for _, in := range []cgroup{w.pods[3], w.unit} {
		p := in.start(t, "onCommand")
		require.Equal(t, "ready", p.line())
		w.older = append(w.older, p)
	}
	w.connectNodes(t)
	return w
}

// truth of who is where. The programs are named as pods' and share the network of the machine.
func (w *comparedWorkload) truth() truth {
	known := truth{
		pods: map[string]podTruth{},
		servers: map[endpoint]string{
			endpointOf(w.upstream.address): hexID(0), endpointOf(w.nginx.address): hexID(1), endpointOf(w.here): hexID(0),
		},
		processes: map[int64]string{int64(w.upstream.command.Process.Pid): hexID(0), int64(w.older[0].command.Process.Pid): hexID(3)},
	}
	for n := range comparedPods {
		pod := comparedPod(n)
		known.pods[hexID(n)] = podTruth{string(pod.UID), pod.Name, pod.Namespace}
	}
	return known
}

func endpointOf(address string) endpoint {
	parsed := netip.MustParseAddrPort(address)
	return endpoint{parsed.Addr().String(), int64(parsed.Port())}
}

// connectNodes has a network for what is observed, and one for what is not.
func (w *comparedWorkload) connectNodes(t *testing.T) {
	t.Helper()
	here, there := newNetwork(t), newNetwork(t)
	w.network, w.elsewhere = here, there
	here.connect("eth0", []string{"10.88.0.2/24"}, there, "eth0", []string{"10.88.0.3/24"})
	log := filepath.Join(t.TempDir(), "calls")
	w.here = w.pods[0].startBy(t, here.by(), "serveHTTP", "tcp4", log, "10.88.0.2:8080").line()
	w.there = cgroup{}.startBy(t, there.by(), "serveHTTP", "tcp4", log, "10.88.0.3:8080").line()
}

// below makes a cgroup, and those that are on the way to it.
func (g cgroup) below(t *testing.T, names ...string) cgroup {
	t.Helper()
	for _, name := range names {
		g = makeCgroup(t, filepath.Join(g.dir.Name(), name))
	}
	return g
}

// startSilentServer takes queries and says nothing.
func (w *comparedWorkload) startSilentServer(t *testing.T) string {
	t.Helper()
	address := fmt.Sprintf("127.78.%d.%d:53", rand.N(250), rand.N(250)+1)
	conn, err := net.ListenPacket("udp4", address)
	require.NoError(t, err)
	t.Cleanup(func() { conn.Close() })
	return address
}

// run does all of it, and returns the rules of the family security that this kernel was not built for.
func (w *comparedWorkload) run(t *testing.T) (missing []string) {
	t.Helper()
	lasting := w.startLasting(t)
	for round := range comparedRounds {
		in := w.pods[round%len(w.pods)]
		if round%3 == 0 {
			in = w.unit
		}
		w.processes(t, in)
		w.connections(t, in)
		w.requests(t, in)
		w.lookups(t, in, round)
	}
	w.betweenNodes(t)
	w.byOlderProcesses(t)
	missing = w.securityActs(t)
	w.outOfMemory(t, w.pods[3])
	for _, p := range lasting {
		p.wait()
	}
	return missing
}

// startLasting is a connection that is reported meanwhile, and flows that are.
func (w *comparedWorkload) startLasting(t *testing.T) []*process {
	t.Helper()
	server := w.pods[0].start(t, "serve", "tcp4", 1, 12_345, "polite")
	client := w.pods[3].start(t, "drip", "tcp4", server.line(), 100_000, 8, "500ms")
	asking := w.pods[3].start(t, "askSlowly", w.names+":53", "slow.found.test.", 16, "200ms")
	return []*process{server, client, asking}
}

// processes end well, with a code and by a signal, and become others.
func (w *comparedWorkload) processes(t *testing.T, in cgroup) {
	t.Helper()
	for _, script := range []string{"exit 0", "exit 3", "kill -9 $$", "true & wait", "exec env true", "i=0; while [ $i -lt 100000 ]; do i=$((i+1)); done"} {
		command := in.command(t, "sh", "-c", script)
		if err := command.Run(); command.ProcessState == nil {
			require.NoError(t, err)
		}
	}
}

func (w *comparedWorkload) connections(t *testing.T, in cgroup) {
	t.Helper()
	server := w.pods[0].start(t, "serve", "tcp4", 2, 1000, "polite")
	in.start(t, "fetch", "tcp4", server.line(), 2, 50_000).wait()
	server.wait()
	in.start(t, "refused", "tcp4", porttest.Closed(t, "tcp4"), 1).wait()
	slam := w.pods[0].start(t, "slam", "tcp4")
	in.start(t, "slammed", "tcp4", slam.line()).wait()
	slam.wait()
}

// requests go well and wrong, to a server and by it to another one, and on connections that are kept.
func (w *comparedWorkload) requests(t *testing.T, in cgroup) {
	t.Helper()
	url := w.nginx.url
	in.curl(t, url("/small.txt"), url("/none"), url("/status/500"), url("/big.bin"))
	in.curl(t, "-d", "a=b", url("/n/form"))
	in.curl(t, url("/app/size/1000"), url("/app/status/404"), url("/app/status/503"))
	in.ask(t, w.upstream.address, []question{{Method: "GET", Target: "/size/10"}, {Method: "POST", Target: "/size/7", Body: 1000}, {Method: "GET", Target: "/status/503"}}).wait()
	in.start(t, "askEach", w.upstream.address, "POST /drop/0").wait()
}

// lookups of names that exist and of others, by the C library with a search list and without, and one that
// nobody answers.
func (w *comparedWorkload) lookups(t *testing.T, in cgroup, round int) {
	t.Helper()
	for _, name := range []string{"web.found.test", "web.found.test.", "missing.test", "missing.test."} {
		getent(t, in, w.names, strconv.Itoa(round)+"."+name)
	}
	in.start(t, "askInVain", w.silent).wait()
}

// betweenNodes are requests whose other ends are not observed: on this node, on another, and from another.
func (w *comparedWorkload) betweenNodes(t *testing.T) {
	t.Helper()
	asked := func(address string) []any {
		return []any{address, "GET /size/10", "POST /status/404", "GET /status/503", "POST /drop/0"}
	}
	w.pods[3].startBy(t, w.network.by(), "askEach", asked(w.there)...).wait()
	cgroup{}.startBy(t, w.elsewhere.by(), "askEach", asked(w.here)...).wait()
	cgroup{}.start(t, "askEach", asked(w.upstream.address)...).wait()
}

// byOlderProcesses is what those do whose start nobody has seen: it is for nothing that is known.
func (w *comparedWorkload) byOlderProcesses(t *testing.T) {
	t.Helper()
	for _, p := range w.older {
		server := w.pods[0].start(t, "serve", "tcp4", 1, 1000, "polite")
		slam := w.pods[0].start(t, "slam", "tcp4")
		for _, command := range [][]string{
			{"askEach", w.upstream.address, "GET /size/10", "POST /status/404", "GET /status/503", "POST /drop/0"},
			{"slammed", "tcp4", slam.line()},
			{"fetch", "tcp4", server.line(), "1", "1000"},
			{"refused", "tcp4", porttest.Closed(t, "tcp4"), "1"},
			{"search", w.names + ":53", "older.found.test"},
			{"search", w.names + ":53", "older.missing.test"},
			{"askSlowly", w.names + ":53", "older.found.test.", "1", "0s"},
			{"askSlowly", w.names + ":53", "older.missing.test.", "1", "0s"},
			{"askSlowly", w.names + ":53", "text.test.", "1", "0s"}, // which has no address
			{"askInVain", w.silent},
		} {
			p.obey(command)
		}
		slam.wait()
		server.wait()
	}
}

// obey has an onCommand run another workload, and waits until it has.
func (p *process) obey(command []string) {
	p.t.Helper()
	line, err := json.Marshal(command)
	require.NoError(p.t, err)
	_, err = p.in.Write(append(line, '\n'))
	require.NoError(p.t, err)
	for done := false; !done; { // before that is what the workload says for itself
		done = p.line() == "done"
	}
}

// onCommand runs the workloads that it reads, a line each, as JSON. Whether they come to what they wanted is
// not its business: some are to fail.
func onCommand([]string) error {
	fmt.Println("ready")
	for lines := bufio.NewScanner(os.Stdin); lines.Scan(); {
		var command []string
		if err := json.Unmarshal(lines.Bytes(), &command); err != nil {
			return err
		}
		_ = workloads[command[0]](command[1:])
		fmt.Println("done")
	}
	return nil
}

// askEach ADDRESS REQUEST... makes requests, of which some may get no answer.
func askEach(args []string) error {
	for _, request := range args[1:] {
		method, target, _ := strings.Cut(request, " ")
		asked, err := http.NewRequest(method, "http://"+args[0]+target, strings.NewReader("body"))
		if err != nil {
			return err
		}
		if response, err := http.DefaultClient.Do(asked); err == nil {
			_, _ = io.Copy(io.Discard, response.Body)
			response.Body.Close()
		}
	}
	http.DefaultClient.CloseIdleConnections()
	return nil
}

// askSlowly ADDRESS NAME COUNT INTERVAL asks again and again over one socket.
func askSlowly(args []string) error {
	interval, err := time.ParseDuration(args[3])
	if err != nil {
		return err
	}
	conn, err := dialServer("udp", args[0])
	if err != nil {
		return err
	}
	for range number(args[2]) {
		if err := errors.Join(conn.send(args[1], dnsmessage.TypeA), conn.receive()); err != nil {
			return err
		}
		time.Sleep(interval)
	}
	return conn.Close()
}

// search ADDRESS NAME goes through all of a search list, as the C library does for names that exist only as they
// are, or not at all.
func search(args []string) error {
	for _, suffix := range append(slices.Clone(searchList), "") {
		conn, err := dialServer("udp", args[0])
		if err != nil {
			return err
		}
		name := strings.TrimSuffix(args[1]+"."+suffix, ".") + "."
		err = errors.Join(conn.send(name, dnsmessage.TypeA), conn.send(name, dnsmessage.TypeAAAA), conn.receive(), conn.receive(), conn.Close())
		if err != nil {
			return err
		}
	}
	return nil
}

// outOfMemory has the kernel kill a program that takes more memory than it may.
func (w *comparedWorkload) outOfMemory(t *testing.T, in cgroup) {
	t.Helper()
	by := limitMemory(t, in, 64<<20)
	p := in.startBy(t, by, "hog")
	for range p.lines {
	}
	require.Error(t, p.command.Wait())
	require.Equal(t, syscall.SIGKILL, p.command.ProcessState.Sys().(syscall.WaitStatus).Signal(), "of the OOM killer")
}

// limitMemory of what runs in the cgroup, in the v1 or the v2 hierarchy, whichever has the memory controller.
// It returns the program, with its arguments, that runs another under the limit.
func limitMemory(t *testing.T, in cgroup, bytes int) []string {
	t.Helper()
	limit := []byte(strconv.Itoa(bytes))
	if v1, err := os.MkdirTemp("/sys/fs/cgroup/memory", "tapio-e2e-"); err == nil {
		openCgroup(t, v1)
		require.NoError(t, os.WriteFile(filepath.Join(v1, "memory.limit_in_bytes"), limit, 0))
		return []string{tool(t, "sh"), "-c", `echo $$ > "$0/cgroup.procs"; exec "$@"`, v1}
	} else if !errors.Is(err, fs.ErrNotExist) && !errors.Is(err, fs.ErrPermission) {
		require.NoError(t, err)
	}
	mount, err := cgroup2Mount()
	require.NoError(t, err)
	dir := mount
	for _, name := range strings.Split(strings.Trim(in.path, "/"), "/") {
		require.NoError(t, os.WriteFile(filepath.Join(dir, "cgroup.subtree_control"), []byte("+memory"), 0))
		dir = filepath.Join(dir, name)
	}
	require.NoError(t, os.WriteFile(filepath.Join(dir, "memory.max"), limit, 0))
	return []string{tool(t, "env")}
}

// hog takes memory without end.
func hog([]string) error {
	for kept := [][]byte{}; ; {
		block := make([]byte, 1<<20)
		for i := range block {
			block[i] = 1
		}
		kept = append(kept, block)
	}
}
