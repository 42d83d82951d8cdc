// Copyright The otelcol-tapio Authors
// SPDX-License-Identifier: Apache-2.0

//go:build linux

package e2e

import (
	"regexp"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"go.opentelemetry.io/collector/pdata/ptrace"
)

// TestPodsThatInstrumentThemselves: with the filter that the receiver's README has for them, only what they send themselves
// is there, and of other pods all that is observed.
func TestPodsThatInstrumentThemselves(t *testing.T) {
	requireBinary(t)
	filter := regexp.MustCompile("(?s)```yaml\n(processors:\n  filter:\n[^`]*tapio.io/sdk[^`]*)```").FindStringSubmatch(readFile(t, "../../receiver/tapioebpfreceiver/README.md"))
	require.NotNil(t, filter, "the README has no such example")
	gateway := startReceiving(t, filter[1], "{exporters: {file: {}}, service: {telemetry: {metrics: {level: none, readers: []}}}}",
		"service::pipelines::traces: {processors: [filter], exporters: [file]}")
	spans := ptrace.NewTraces()
	for _, of := range []struct {
		name, source string // no source: an SDK
		sdk          string // the pod's annotation
	}{
		{"observed in a pod with an SDK", "kernel", "true"},
		{"observed in a pod without", "kernel", ""},
		{"observed in a pod that says no", "kernel", "false"},
		{"of an SDK", "", "true"},
	} {
		one := ptrace.NewTraces()
		addSpan(one, [16]byte{1}, of.name)
		resource := one.ResourceSpans().At(0).Resource().Attributes()
		if of.source != "" {
			resource.PutStr("tapio.source", of.source)
		}
		if of.sdk != "" {
			resource.PutStr("k8s.pod.annotation.tapio.io/sdk", of.sdk)
		}
		one.ResourceSpans().MoveAndAppendTo(spans.ResourceSpans())
	}
	gateway.send(t, spans)
	var names []string
	for _, span := range gateway.output.spans {
		if span.name != lastName {
			names = append(names, span.name)
		}
	}
	assert.ElementsMatch(t, []string{"observed in a pod without", "observed in a pod that says no", "of an SDK"}, names)
}
