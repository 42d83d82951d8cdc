// Copyright The otelcol-tapio Authors
// SPDX-License-Identifier: Apache-2.0

//go:build linux && (amd64 || arm64)

package kernel

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"hash/crc32"
	"net"
	"os"
	"regexp"
	"slices"
	"strconv"
	"sync"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/tapio-io/otelcol-tapio/bpf"
	"github.com/tapio-io/otelcol-tapio/receiver/tapioebpfreceiver/internal/event"
	"github.com/tapio-io/otelcol-tapio/receiver/tapioebpfreceiver/internal/event/eventtest"
	"github.com/tapio-io/otelcol-tapio/receiver/tapioebpfreceiver/internal/protocol/http1"
	"github.com/tapio-io/otelcol-tapio/receiver/tapioebpfreceiver/internal/source"
)

func init() { workloads["scripts"] = scriptsWorkload }

// conversationsAtATime are few enough that each end finds a place in the world's table.
const conversationsAtATime = 8

// scriptsWorkload plays all scripts of its input, over the way that args[0] names.
func scriptsWorkload(args []string) error {
	var scripts []script
	if err := json.NewDecoder(os.Stdin).Decode(&scripts); err != nil {
		return err
	}
	way, err := newWay(args[0])
	if err != nil {
		return err
	}
	places := make(chan struct{}, conversationsAtATime)
	failures := make([]error, len(scripts))
	var all sync.WaitGroup
	for i, s := range scripts {
		s.way = way
		places <- struct{}{}
		all.Go(func() {
			failures[i] = s.playAlone()
			<-places
		})
	}
	all.Wait()
	if way != nil {
		failures = append(failures, way.await())
	}
	return errors.Join(failures...)
}

const (
	overLoopback     = "loopback"
	overABadWay      = "bad way"
	overALosingWay   = "losing way"
	overAnEchoingWay = "echoing way"
	overACrossingWay = "crossing way"
	overAGroupingWay = "grouping way"
	overAMergingWay  = "merging way"
	overAForgingWay  = "forging way"
)

// newWay by its name; nil: loopback.
func newWay(name string) (*badWay, error) {
	ways := map[string]func() (*badWay, error){
		overLoopback:     func() (*badWay, error) { return nil, nil },
		overABadWay:      newMixingWay,
		overALosingWay:   newLosingWay,
		overAnEchoingWay: newEchoingWay,
		overACrossingWay: newCrossingWay,
		overAGroupingWay: newGroupingWay,
		overAMergingWay:  newMergingWay,
		overAForgingWay:  newForgingWay,
	}
	return ways[name]()
}

func (s script) playAlone() error {
	listen := s.listen
	if s.way != nil {
		listen = func() (net.Listener, error) { return s.way.listen(s) }
	}
	listener, err := listen()
	if err != nil {
		return err
	}
	defer listener.Close()
	return s.play(listener)
}

// drawnFrom is the number of the first of what is drawn, and how many follow: as the environment says, or most. Each number is
// always the same.
func drawnFrom(t testing.TB, seedEnv, countEnv string, most uint64) (first, count uint64) {
	t.Helper()
	first, count = 1, most
	for name, value := range map[string]*uint64{seedEnv: &first, countEnv: &count} {
		text := os.Getenv(name)
		if text == "" {
			continue
		}
		n, err := strconv.ParseUint(text, 10, 32)
		require.NoError(t, err, name)
		*value = n
	}
	return first, count
}

// togetherInAWorld are the conversations that one process plays.
const togetherInAWorld = 150

// Conversations are drawn so that it is known by construction what must be told of each end, in whatever pieces they come.
// TAPIO_HTTP_SEED=17 TAPIO_HTTP_CONVERSATIONS=1 plays one again, and with TAPIO_HTTP_CONVERSATIONS=5000 the test takes minutes.
func TestWhateverIsSaidOverHTTPIsToldAsItIs(t *testing.T) {
	for _, way := range []string{overLoopback, overABadWay} {
		if way == overABadWay && !canMakeDevices(t) {
			t.Log("packets cannot be carried by a test here: there is no /dev/net/tun")
			continue
		}
		first, count := drawnFrom(t, "TAPIO_HTTP_SEED", "TAPIO_HTTP_CONVERSATIONS", 60)
		for ; count > 0; first, count = first+min(count, togetherInAWorld), count-min(count, togetherInAWorld) {
			t.Run(fmt.Sprintf("%s from %d", way, first), func(t *testing.T) { requireToldAsDrawn(t, way, first, min(count, togetherInAWorld)) })
		}
	}
}

func requireToldAsDrawn(t *testing.T, way string, first, count uint64) {
	t.Helper()
	w := newWorld(t, func(o *Options) { withHTTP(o); o.RingSize = 16 << 20 })
	var drawn []conversation
	var scripts []script
	for seed := first; seed < first+count; seed++ {
		drawn = append(drawn, drawConversation(seed, way == overABadWay))
		scripts = append(scripts, drawn[len(drawn)-1].script)
	}
	text, err := json.Marshal(scripts)
	require.NoError(t, err)
	command := w.workload("scripts", way)
	command.Stdin = bytes.NewReader(text)
	require.NoError(t, command.Run(), "conversations from %d", first)
	w.finish()
	told := w.toldBySeed(uint32(command.Process.Pid))
	var want source.Counters
	for _, c := range drawn {
		want.Seen += uint64(len(c.want))
		assertToldAsDrawn(t, c, told[c.seed])
		delete(told, c.seed)
	}
	assert.Empty(t, told, "what nobody has asked for")
	assert.Equal(t, want, w.httpCounters(), "conversations from %d", first)
	assertSlotsAreFree(t, w)
}

// toldExchange is one, with where it begins.
type toldExchange struct {
	wire bpf.WireHttpExchange
	exchange
}

// seedIn is in the target of each request, which says whose it is.
var seedIn = regexp.MustCompile(`^\S+ \S*?seed-(\d+)-`)

func (w *world) toldBySeed(pid uint32) map[uint64][]toldExchange {
	w.t.Helper()
	told := map[uint64][]toldExchange{}
	wires, found := w.exchangesOf(pid)
	for i := range wires {
		var seed uint64
		if match := seedIn.FindStringSubmatch(found[i].Request); match != nil {
			seed, _ = strconv.ParseUint(match[1], 10, 64)
		}
		told[seed] = append(told[seed], toldExchange{wires[i], found[i]})
	}
	records := w.ofType(event.TypeHTTPExchange)
	assert.Len(w.t, records, len(wires), "all are of the one process")
	for _, record := range records {
		assertReadable(w.t, record)
	}
	return told
}

// assertReadable by who is told.
func assertReadable(t testing.TB, record []byte) {
	t.Helper()
	e, err := event.DecodeHTTPExchange(eventtest.Aligned(record))
	if !assert.NoError(t, err) {
		return
	}
	request, err := http1.ParseRequest(e.Request)
	if assert.NoError(t, err, "%q", e.Request) {
		assert.True(t, bytes.HasPrefix(e.Request, request.Method))
		assert.Contains(t, string(request.Target), "/seed-")
	}
}

func assertToldAsDrawn(t *testing.T, c conversation, told []toldExchange) {
	t.Helper()
	byRole := map[string][]toldExchange{}
	for _, e := range told {
		byRole[e.Role] = append(byRole[e.Role], e)
	}
	good := true
	for _, role := range []string{"client", "server"} {
		slices.SortStableFunc(byRole[role], func(a, b toldExchange) int { return int(int32(a.wire.RequestSequence - b.wire.RequestSequence)) })
		good = assert.Equal(t, texts(c.of(role)), toldTexts(byRole[role]), "seed %d: what the %s says", c.seed, role) && good
	}
	good = good && assertEndsAgree(t, c, byRole["client"], byRole["server"])
	if !good {
		t.Logf("seed %d is this conversation:\n%s", c.seed, c)
	}
}

// assertEndsAgree on where each exchange is in the streams, by which spans of both ends find each other.
func assertEndsAgree(t *testing.T, c conversation, client, server []toldExchange) bool {
	t.Helper()
	at := c.told
	good := true
	for i := range min(len(client), len(server), len(at)) {
		good = assert.Equal(t, client[i].wire.Ends.LocalAddress, server[i].wire.Ends.PeerAddress, "seed %d", c.seed) &&
			assert.Equal(t, client[i].wire.Ends.LocalPort, server[i].wire.Ends.PeerPort, "seed %d", c.seed) &&
			assert.Equal(t, client[i].wire.RequestSequence, server[i].wire.RequestSequence, "seed %d: where request %d begins", c.seed, i) &&
			assert.EqualValues(t, at[i].request-at[0].request, client[i].wire.RequestSequence-client[0].wire.RequestSequence, "seed %d: where request %d begins", c.seed, i) && good
		if !at[i].answered {
			continue
		}
		good = assert.Equal(t, client[i].wire.RequestAcknowledged, server[i].wire.RequestAcknowledged, "seed %d: where response %d begins", c.seed, i) &&
			assert.EqualValues(t, at[i].response-at[0].response, client[i].wire.RequestAcknowledged-client[0].wire.RequestAcknowledged, "seed %d: where response %d begins", c.seed, i) && good
	}
	return good
}

// texts are exchanges as lines, of which a difference can be read.
func texts(exchanges []exchange) []string {
	lines := []string{}
	for _, e := range exchanges {
		lines = append(lines, fmt.Sprintf("%d %v error %d bodies %d %d heads %d %d %08x %s %s", e.Status, e.Flags, e.Error, e.RequestBody, e.ResponseBody,
			len(e.Request), len(e.Response), crc32.ChecksumIEEE([]byte(e.Request+e.Response)), shortened(e.Request), shortened(e.Response)))
	}
	return lines
}

func toldTexts(told []toldExchange) []string {
	var exchanges []exchange
	for _, e := range told {
		if e.Flags&bpf.WireHttpFlagsHTTP_INVALID_RESPONSE != 0 {
			e.Response = "" // how much there is of it depends on the pieces that it came in
		}
		exchanges = append(exchanges, e.exchange)
	}
	return texts(exchanges)
}
