// Copyright The otelcol-tapio Authors
// SPDX-License-Identifier: Apache-2.0

package tapioebpfreceiver

import (
	"context"
	"encoding/json"
	"errors"
	"flag"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"go.opentelemetry.io/collector/component/componenttest"
	"go.opentelemetry.io/collector/consumer/consumertest"
	"go.opentelemetry.io/collector/pdata/pcommon"
	"go.opentelemetry.io/collector/pdata/pmetric"
	"go.opentelemetry.io/collector/receiver/receivertest"

	"github.com/tapio-io/otelcol-tapio/receiver/tapioebpfreceiver/internal/event"
	"github.com/tapio-io/otelcol-tapio/receiver/tapioebpfreceiver/internal/event/eventtest"
	"github.com/tapio-io/otelcol-tapio/receiver/tapioebpfreceiver/internal/metadata"
	"github.com/tapio-io/otelcol-tapio/receiver/tapioebpfreceiver/internal/source/recording"
)

var update = flag.Bool("update", false, "write the golden files anew")

// TestGolden plays recordings of real kernels and compares all that is said of them with what was
// found right before. After a change that is meant: go test ./receiver/tapioebpfreceiver -run TestGolden -update
func TestGolden(t *testing.T) {
	recordings, err := filepath.Glob("testdata/recordings/*.tapiorec")
	require.NoError(t, err)
	require.NotEmpty(t, recordings)
	for _, file := range recordings {
		t.Run(filepath.Base(file), func(t *testing.T) {
			golden := strings.TrimSuffix(file, ".tapiorec") + ".jsonl"
			got := strings.Join(tellRecording(t, file), "\n") + "\n"
			if *update {
				require.NoError(t, os.WriteFile(golden, []byte(got), 0o600))
			}
			want, err := os.ReadFile(golden)
			require.NoError(t, err)
			assert.Equal(t, string(want), got)
		})
	}
}

// tellRecording returns spans, log records and the last value of each series as lines of JSON, in an order of their own.
func tellRecording(t *testing.T, file string) (lines []string) {
	t.Helper()
	cfg := createDefaultConfig().(*Config)
	cfg.Source, cfg.Replay = "replay", ReplayConfig{File: file}
	cfg.Families.Security.Get().SensitivePaths = []string{"**/secret"} // as that of the recorded test is called
	traces, logs, metrics := &consumertest.TracesSink{}, &consumertest.LogsSink{}, &consumertest.MetricsSink{}
	set, factory := receivertest.NewNopSettings(metadata.Type), NewFactory()
	created, err := factory.CreateTraces(t.Context(), set, cfg, traces)
	require.NoError(t, err)
	_, err = factory.CreateLogs(t.Context(), set, cfg, logs)
	require.NoError(t, err)
	_, err = factory.CreateMetrics(t.Context(), set, cfg, metrics)
	require.NoError(t, err)
	require.NoError(t, created.Start(t.Context(), componenttest.NewNopHost()))
	r := created.(*tapioReceiver)
	records := recordsIn(t, file)
	require.Eventually(t, func() bool { return r.stats().TotalEvents == records }, patience, 10*time.Millisecond)
	require.NoError(t, created.Shutdown(context.Background()))

	names := map[pcommon.SpanID]string{}
	for _, batch := range traces.AllTraces() {
		for _, of := range batch.ResourceSpans().All() {
			for _, span := range of.ScopeSpans().At(0).Spans().All() {
				names[span.SpanID()] = span.Name()
			}
		}
	}
	tell := func(what ...any) {
		line, err := json.Marshal(what)
		require.NoError(t, err)
		lines = append(lines, string(line))
	}
	for _, batch := range traces.AllTraces() {
		for _, of := range batch.ResourceSpans().All() {
			for _, span := range of.ScopeSpans().At(0).Spans().All() {
				tell(span.StartTimestamp(), span.EndTimestamp(), "span", span.Name(), span.Kind().String(), span.Status().Code().String(),
					"child of "+names[span.ParentSpanID()], span.Attributes().AsRaw(), of.Resource().Attributes().AsRaw())
			}
		}
	}
	for _, batch := range logs.AllLogs() {
		for _, of := range batch.ResourceLogs().All() {
			for _, record := range of.ScopeLogs().At(0).LogRecords().All() {
				tell(record.Timestamp(), record.Timestamp(), "log", record.EventName(), record.SeverityText(),
					"of "+names[record.SpanID()], record.Attributes().AsRaw(), of.Resource().Attributes().AsRaw())
			}
		}
	}
	rounds := metrics.AllMetrics()
	require.NotEmpty(t, rounds)
	for _, of := range rounds[len(rounds)-1].ResourceMetrics().All() { // all series, as they are cumulative
		for _, metric := range of.ScopeMetrics().At(0).Metrics().All() {
			for _, value := range valuesOf(metric) {
				tell(0, 0, "metric", metric.Name(), metric.Type().String(), metric.Unit(), value, of.Resource().Attributes().AsRaw())
			}
		}
	}
	slices.Sort(lines)
	return lines
}

// valuesOf a metric's series.
func valuesOf(metric pmetric.Metric) (values [][]any) {
	switch metric.Type() {
	case pmetric.MetricTypeHistogram:
		for _, point := range metric.Histogram().DataPoints().All() {
			values = append(values, []any{point.Attributes().AsRaw(), point.Count(), point.Sum(), point.BucketCounts().AsRaw()})
		}
		return values
	case pmetric.MetricTypeSum:
		return numbersOf(metric.Sum().DataPoints())
	default:
		return numbersOf(metric.Gauge().DataPoints())
	}
}

func numbersOf(points pmetric.NumberDataPointSlice) (values [][]any) {
	for _, point := range points.All() {
		values = append(values, []any{point.Attributes().AsRaw(), point.IntValue(), point.DoubleValue()})
	}
	return values
}

// recordsIn counts the records of a recording that are events.
func recordsIn(t *testing.T, path string) (n uint64) {
	t.Helper()
	file, err := os.Open(path)
	require.NoError(t, err)
	defer file.Close()
	reader, err := recording.NewReader(file)
	require.NoError(t, err)
	for {
		frame, err := reader.Next()
		if errors.Is(err, io.EOF) {
			return n
		}
		require.NoError(t, err)
		if frame.Kind != recording.KindRecord {
			continue
		}
		header, err := event.DecodeHeader(eventtest.Aligned(frame.Payload))
		require.NoError(t, err)
		if event.Type(header.Type).Family() != event.FamilyCgroup {
			n++
		}
	}
}
