// Copyright The otelcol-tapio Authors
// SPDX-License-Identifier: Apache-2.0

package tapioebpfreceiver

import (
	"context"
	"encoding/json"
	"net/netip"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"go.opentelemetry.io/collector/component/componenttest"
	"go.opentelemetry.io/collector/consumer/consumertest"
	"go.opentelemetry.io/collector/receiver"
	"go.opentelemetry.io/collector/receiver/receivertest"

	"github.com/tapio-io/otelcol-tapio/receiver/tapioebpfreceiver/internal/identity/kube"
	"github.com/tapio-io/otelcol-tapio/receiver/tapioebpfreceiver/internal/metadata"
	"github.com/tapio-io/otelcol-tapio/receiver/tapioebpfreceiver/internal/source"
	"github.com/tapio-io/otelcol-tapio/receiver/tapioebpfreceiver/internal/source/recording"
)

// changingNames know the pod of podCgroup as a test says.
type changingNames struct {
	mu      sync.Mutex
	pod     *kube.Pod
	version uint64
}

func (n *changingNames) set(pod *kube.Pod) {
	n.mu.Lock()
	defer n.mu.Unlock()
	n.pod = pod
	n.version++
}

func (n *changingNames) Pod(string) *kube.Pod {
	n.mu.Lock()
	defer n.mu.Unlock()
	return n.pod
}

func (n *changingNames) Container(string) (*kube.Pod, *kube.Container) {
	n.mu.Lock()
	defer n.mu.Unlock()
	if n.pod == nil || len(n.pod.Containers) == 0 {
		return nil, nil
	}
	return n.pod, &n.pod.Containers[0]
}

func (*changingNames) Peer(netip.Addr) kube.Peer { return kube.Peer{} }

func (n *changingNames) Version() uint64 {
	n.mu.Lock()
	defer n.mu.Unlock()
	return n.version
}

func (*changingNames) Changes(func(string)) (isAny bool) { return true }

// linesOf are log records as JSON, but for where they are from.
func linesOf(t *testing.T, sink *consumertest.LogsSink) (lines []string) {
	for _, logs := range sink.AllLogs() {
		for _, of := range logs.ResourceLogs().All() {
			of.Resource().Attributes().Remove("tapio.source")
			of.Resource().Attributes().Remove("tapio.replay.source")
			for _, record := range of.ScopeLogs().At(0).LogRecords().All() {
				line, err := json.Marshal([]any{record.Timestamp(), record.EventName(), record.Attributes().AsRaw(), of.Resource().Attributes().AsRaw()})
				require.NoError(t, err)
				lines = append(lines, string(line))
			}
		}
	}
	slices.Sort(lines)
	return lines
}

// A pod becomes known while its events wait, gets a container, changes, and goes. A replay says at each event what
// was known then.
func TestAReplayHasTheNamesOfThen(t *testing.T) {
	file := filepath.Join(t.TempDir(), "recording")
	cfg := createDefaultConfig().(*Config)
	cfg.Recording.File, cfg.Batch.Timeout, cfg.Identity.PodTimeout = file, time.Millisecond, time.Minute
	r, err := newReceiver(receivertest.NewNopSettings(metadata.Type), cfg)
	require.NoError(t, err)
	sink, fake, known := &consumertest.LogsSink{}, &fakeSource{}, &changingNames{}
	r.next.logs, r.otherNames = sink, known
	r.openSource = func(cfg *Config, set receiver.Settings) (source.Source, error) { return openRecording(fake, cfg, set) }
	require.NoError(t, r.Start(t.Context(), componenttest.NewNopHost()))
	defer func() { require.NoError(t, r.Shutdown(context.Background())) }()
	await := func(n int) {
		t.Helper()
		require.Eventually(t, func() bool { return sink.LogRecordCount() == n }, patience, time.Millisecond)
	}
	pod := func(label string, containers ...kube.Container) *kube.Pod {
		return &kube.Pod{
			UID: "2c48913c-b29f-11e7-9350-020968147796", Name: "web-1", Namespace: "shop", Node: "node-1", Containers: containers,
			Owners: []kube.Owner{{Kind: "ReplicaSet", Name: "web"}}, Labels: []kube.Attribute{{Key: "k8s.pod.label.team", Value: label}},
		}
	}
	nginx := kube.Container{ID: strings.Repeat("a", 64), Runtime: "containerd", Name: "nginx", Image: "nginx:1.27"}

	fake.giveInPod(3)
	require.Eventually(t, func() bool { return r.stats().Ledger["process"].InFlight == 3 }, patience, time.Millisecond)
	known.set(pod("red"))
	known.set(pod("red", nginx))
	await(3)
	fake.giveInPod(2)
	await(5)
	nginx.Restarts = 1
	known.set(pod("blue", nginx))
	require.Eventually(t, func() bool { // the change is taken over in the reader's own time
		before := sink.LogRecordCount()
		fake.giveInPod(1)
		await(before + 1)
		lines := linesOf(t, sink)
		return slices.ContainsFunc(lines, func(line string) bool { return strings.Contains(line, `"blue"`) })
	}, patience, time.Millisecond)
	known.set(nil)
	n := sink.LogRecordCount()
	fake.giveInPod(2)
	await(n + 2)
	require.NoError(t, r.Shutdown(context.Background()))
	want := linesOf(t, sink)
	require.Contains(t, want[0], `"k8s.container.name":"nginx"`)

	again := &consumertest.LogsSink{}
	startReplay(t, file, again, func(*Config) {})
	require.Eventually(t, func() bool { return again.LogRecordCount() == n+2 }, patience, time.Millisecond)
	assert.Equal(t, want, linesOf(t, again))
}

// What the simulator knows is recorded as well: pods, and who has an address.
func TestAReplayOfTheSimulatorHasItsNames(t *testing.T) {
	file := filepath.Join(t.TempDir(), "recording")
	simulated := createDefaultConfig().(*Config)
	simulated.Source, simulated.Simulator.Rate, simulated.Recording.File = "simulator", 1000, file
	live := &consumertest.LogsSink{}
	r, err := NewFactory().CreateLogs(t.Context(), receivertest.NewNopSettings(metadata.Type), simulated, live)
	require.NoError(t, err)
	require.NoError(t, r.Start(t.Context(), componenttest.NewNopHost()))
	require.Eventually(t, func() bool { return r.(*tapioReceiver).stats().TotalEvents > 3000 }, 30*time.Second, time.Millisecond)
	require.NoError(t, r.Shutdown(context.Background()))

	played := &consumertest.LogsSink{}
	startReplay(t, file, played, func(*Config) {})
	require.Eventually(t, func() bool { return played.LogRecordCount() > 0 }, 30*time.Second, time.Millisecond)
	for _, of := range played.AllLogs()[0].ResourceLogs().All() { // before linesOf
		require.Equal(t, "replay", textOf(of.Resource().Attributes(), "tapio.source"))
		require.Equal(t, "simulator", textOf(of.Resource().Attributes(), "tapio.replay.source"), "it was never of a kernel")
	}
	want, got := linesOf(t, live), []string(nil)
	isThere := func(line string) bool {
		_, found := slices.BinarySearch(got, line)
		return found
	}
	require.Eventually(t, func() bool { // repeats are told when their interval is over: the number of lines is no sign of that
		got = linesOf(t, played)
		return !slices.ContainsFunc(want, func(line string) bool { return !isThere(line) })
	}, 30*time.Second, 100*time.Millisecond)
	for _, key := range []string{`"k8s.pod.name"`, `"k8s.container.name"`, `"tapio.peer.k8s.pod.name"`} {
		assert.True(t, slices.ContainsFunc(got, func(line string) bool { return strings.Contains(line, key) }), key)
	}
}

func frameOf(payload []byte) recording.Frame {
	return recording.Frame{Kind: recording.KindNames, Payload: payload}
}

// A pod that is forgotten is forgotten in a replay, too, and what is no answer ends it.
func TestPlayedNames(t *testing.T) {
	n := &playedNames{pods: map[string]*kube.Pod{}, containers: map[string]podContainer{}, peers: map[netip.Addr]kube.Peer{}}
	address := netip.MustParseAddr("10.0.0.1")
	learn := func(told toldName) {
		payload, err := json.Marshal(told)
		require.NoError(t, err)
		require.NoError(t, n.learn(frameOf(payload)))
	}
	pod := &kube.Pod{UID: "1", Name: "web", Addresses: []netip.Addr{address}}
	learn(toldName{UID: "1", Pod: pod})
	learn(toldName{Container: "c", Pod: pod, As: &kube.Container{ID: "c", Name: "app"}})
	learn(toldName{Address: address, Peer: &kube.Peer{Kind: kube.PeerPod, Name: "web", Pod: pod}})
	assert.Equal(t, pod, n.Pod("1"))
	_, container := n.Container("c")
	assert.Equal(t, "app", container.Name)
	assert.Equal(t, pod, n.Peer(address).Pod)
	assert.EqualValues(t, 3, n.Version())
	var changed []string
	assert.False(t, n.Changes(func(id string) { changed = append(changed, id) }))
	assert.Equal(t, []string{"1", "c"}, changed)

	learn(toldName{UID: "1"})
	learn(toldName{Container: "c"})
	learn(toldName{Address: address, Peer: &kube.Peer{}})
	assert.Empty(t, n.pods)
	assert.Empty(t, n.containers)
	assert.Empty(t, n.peers)
	assert.Error(t, n.learn(frameOf([]byte("{"))))
}

// A name that is gone is told, also after the last ones were forgotten.
func TestNothingIsNews(t *testing.T) {
	last := map[int]string{}
	assert.True(t, isNew(last, 1, "a"))
	assert.False(t, isNew(last, 1, "a"))
	clear(last)
	assert.True(t, isNew(last, 1, ""))
	assert.False(t, isNew(last, 1, ""))
}
