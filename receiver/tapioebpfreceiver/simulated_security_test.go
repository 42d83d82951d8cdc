// Copyright The otelcol-tapio Authors
// SPDX-License-Identifier: Apache-2.0

package tapioebpfreceiver

import (
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"go.opentelemetry.io/collector/pdata/pcommon"
	"go.opentelemetry.io/collector/pdata/plog"
	"go.uber.org/zap"

	"github.com/tapio-io/otelcol-tapio/receiver/tapioebpfreceiver/internal/correlate"
	"github.com/tapio-io/otelcol-tapio/receiver/tapioebpfreceiver/internal/event"
	"github.com/tapio-io/otelcol-tapio/receiver/tapioebpfreceiver/internal/identity"
	"github.com/tapio-io/otelcol-tapio/receiver/tapioebpfreceiver/internal/ledger"
	"github.com/tapio-io/otelcol-tapio/receiver/tapioebpfreceiver/internal/source/kernel"
	"github.com/tapio-io/otelcol-tapio/receiver/tapioebpfreceiver/internal/source/simulator"
	"github.com/tapio-io/otelcol-tapio/receiver/tapioebpfreceiver/internal/translate"
)

// told is what becomes of simulated records where all rules are on and nobody is allowed anything.
func told(t *testing.T, turns int) *translate.Batch {
	t.Helper()
	paths := []string{"/etc/shadow", "/etc/sudoers", "/run/secrets/kubernetes.io/serviceaccount/"}
	s, err := simulator.New(simulator.Options{
		Seed: 4, Pods: 20, Scenarios: simulator.Scenarios{Attack: 0.05},
		Families: []string{"process", "network", "dns", "http", "security"},
		Security: kernel.SecurityOptions{Kinds: event.SecurityKinds(), Paths: paths},
	}, zap.NewNop())
	require.NoError(t, err)
	security := translate.SecurityOptions{Shells: []string{"bash"}, EveryCredentialChange: true}
	for _, kind := range event.SecurityKinds() {
		security.Rules[kind] = translate.SecurityRule{Enabled: true, Severity: plog.SeverityNumberWarn}
	}
	for _, path := range paths {
		security.Paths = append(security.Paths, translate.SensitivePath{Pattern: translate.PathPattern(path)})
	}
	var account ledger.Ledger
	index := identity.NewIndex(identity.Options{Resolver: s, Names: namesOf(s)})
	translator := translate.New(translate.Options{
		Signals:  translate.Signals{Traces: true, Logs: true},
		Describe: translate.Describe{Source: s.Name()}, Start: pcommon.NewTimestampFromTime(s.Wall()),
		SeriesLimit: 1000, Processes: true, DNSTimeout: time.Second, MaxWaiting: 1000, Security: security,
		Correlation: correlate.Options{MaxHeld: 100_000, MaxWait: 30 * time.Second},
	}, index, correlate.NewIDs(), &account)
	boot, err := s.BootTime()
	require.NoError(t, err)
	translator.SetBootTime(boot)
	index.LoadCgroups(s.Cgroups())
	index.Load(s.Processes())
	for range turns {
		began := s.Boot()
		require.NoError(t, s.Read(translator.Handle))
		translator.Tick(began)
	}
	translator.Flush()
	rows, err := account.Rows(s.Counters)
	require.NoError(t, err)
	require.Positive(t, rows[event.FamilySecurity].Seen)
	require.Empty(t, rows[event.FamilySecurity].Lost, "all can be decoded")
	return translator.Take()
}

// TestSimulatedActions takes what the simulator makes of the family all the way: each is a record and a span that
// agree, and those of the attack are in the traces of its programs.
func TestSimulatedActions(t *testing.T) {
	batch := told(t, 10)
	programs := map[pcommon.TraceID]map[string]bool{}
	spans := map[pcommon.SpanID]string{}
	for _, of := range batch.Traces.ResourceSpans().All() {
		require.Equal(t, "simulator", textOf(of.Resource().Attributes(), "tapio.source"))
		for _, span := range of.ScopeSpans().At(0).Spans().All() {
			spans[span.SpanID()] = span.Name()
			if span.Name() == "process.exec" {
				if programs[span.TraceID()] == nil {
					programs[span.TraceID()] = map[string]bool{}
				}
				programs[span.TraceID()][textOf(span.Attributes(), "process.executable.name")] = true
			}
		}
	}
	names, stories := map[string]int{}, map[pcommon.TraceID]map[string]bool{}
	for _, of := range batch.Logs.ResourceLogs().All() {
		for _, record := range of.ScopeLogs().At(0).LogRecords().All() {
			rule := textOf(record.Attributes(), "security_rule.name")
			if rule == "" {
				continue
			}
			names[rule]++
			require.Equal(t, "tapio."+spans[record.SpanID()], record.EventName(), "log and span agree")
			if stories[record.TraceID()] == nil {
				stories[record.TraceID()] = map[string]bool{}
			}
			stories[record.TraceID()][rule] = true
		}
	}
	for _, kind := range event.SecurityKinds() {
		if kind != event.SecurityCapability { // it takes a list of capabilities
			assert.Positive(t, names[kind.String()], kind.String())
		}
	}
	attacks := 0
	for trace, of := range programs {
		if !of["memfd:agent"] || !of["wget"] {
			continue // another trace, or one that was not over
		}
		attacks++
		for _, kind := range event.SecurityKinds() {
			assert.Equal(t, kind != event.SecurityCapability, stories[trace][kind.String()], kind.String())
		}
	}
	assert.Greater(t, attacks, 2)
}
