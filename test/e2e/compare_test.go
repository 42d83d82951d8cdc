// Copyright The otelcol-tapio Authors
// SPDX-License-Identifier: Apache-2.0

//go:build linux

package e2e

import (
	"fmt"
	"io"
	"maps"
	"net/http"
	"os"
	"slices"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/tapio-io/otelcol-tapio/test/compare"
)

// simulatedEvents are as many as it takes for all that the simulator can tell to have happened.
const simulatedEvents = 30_000

// waitingQueries are as many of the simulator's as may be waiting for their answers when it ends: of 360 a second, those
// that nobody answers within the timeout, of which 14 is the most that was seen.
const waitingQueries = 100

// TestCompare runs the sources ebpf, over real programs, and simulator at the same time, and wants what they
// say to have the same shape. It prints the report of "make compare".
func TestCompare(t *testing.T) {
	if os.Getenv("TAPIO_COMPARE") != "1" {
		t.Skip("set TAPIO_COMPARE=1, as make compare does: it takes a machine to itself, for names that come in time")
	}
	requireBPF(t)
	w := newComparedWorkload(t)
	// what takes its time by default would take the test's, too
	quick := []string{
		"receivers::tapioebpf::families::network::report_interval: 1s",
		"receivers::tapioebpf::families::dns::timeout: 1s",
		"receivers::tapioebpf::correlation::max_wait: 1s",
	}
	kernel := compareCollector(t, compare.Kernel, w.scope, append(slices.Clone(quick), comparedKubernetes(t)))
	simulator := compareCollector(t, compare.Simulator, cgroup{}, append(quick,
		"receivers::tapioebpf::source: simulator",
		"receivers::tapioebpf::simulator: {rate: 3000, scenarios: {errors: 0.3, nxdomain_storm: 0.03, crash_loop: 0.2, noisy_neighbor: 0.01, attack: 0.05}}",
	))
	missing := w.run(t)
	require.Eventually(t, func() bool { return simulator.stats().TotalEvents >= simulatedEvents }, time.Minute, pollInterval)
	kernel.quiet()

	a, b := kernel.finish(w.truth()), simulator.finish(truth{ownNetwork: true})
	found := compare.Compare(a, b, slices.Concat(compare.Allowed, compare.NotBuilt(missing...)))
	if testing.Verbose() {
		fmt.Println(compare.Report(a, b, found)) // as it is, without the columns that a log would have before it
	}
	for _, failure := range compare.Failures(found) {
		t.Errorf("%s, which has no reason (docs/compare.md)", failure)
	}
}

// compared is a collector that is one of the sides.
type compared struct {
	*collector
	side  *compare.Side
	began time.Time
}

func compareCollector(t *testing.T, source string, scope cgroup, overrides []string) *compared {
	t.Helper()
	return &compared{collector: startCollector(t, scope, overrides...), side: compare.NewSide(source), began: time.Now()}
}

// finish ends the collector, and returns all that is known of it. It lost nothing but the simulator's
// queries that were waiting for their answers.
func (c *compared) finish(known truth) *compare.Side {
	c.t.Helper()
	c.side.Ran = time.Since(c.began)
	user, system := c.cpuTime()
	c.side.CPU, c.side.RSS = user+system, c.residentMemory()
	for _, path := range []string{"/healthz", "/readyz", "/stats"} {
		c.addEndpoint(path)
	}
	rows := c.terminate()
	c.side.Ledger = map[string]compare.Row{}
	for family, r := range rows {
		c.side.Ledger[family] = compare.Row(r)
		lost := maps.Clone(r.Lost)
		if c.side.Name == compare.Simulator && family == "dns" && lost["shutdown"] <= waitingQueries {
			delete(lost, "shutdown")
		}
		assert.Empty(c.t, lost, "%s of %s", family, c.side.Name)
	}
	file, err := os.Open(c.output.path)
	require.NoError(c.t, err)
	defer file.Close()
	require.NoError(c.t, c.side.Shape.AddJSON(file))
	assert.Equal(c.t, []string{c.side.Name}, c.side.Shape.Sources(), "tapio.source")
	require.NoError(c.t, c.output.read())
	requireBelonging(c.t, &c.output, known)
	if c.side.Name == compare.Kernel && !c.t.Failed() { // of the simulator it is tested without a kernel
		requireTeeth(c.t, &c.output, known)
	}
	return c.side
}

func (c *compared) addEndpoint(path string) {
	c.t.Helper()
	response, err := http.Get(c.statsURL + path)
	require.NoError(c.t, err)
	defer response.Body.Close()
	body, err := io.ReadAll(response.Body)
	require.NoError(c.t, err)
	require.NoError(c.t, c.side.AddEndpoint(path, response.StatusCode, body))
}
