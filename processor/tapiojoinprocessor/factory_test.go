// Copyright The otelcol-tapio Authors
// SPDX-License-Identifier: Apache-2.0

package tapiojoinprocessor

import (
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"go.opentelemetry.io/collector/component"
	"go.opentelemetry.io/collector/consumer/consumertest"
	"go.opentelemetry.io/collector/processor/processortest"
)

func TestFactory(t *testing.T) {
	factory := NewFactory()
	assert.Equal(t, component.StabilityLevelAlpha, factory.TracesStability())
	assert.Equal(t, component.StabilityLevelAlpha, factory.LogsStability())
	_, err := factory.CreateMetrics(t.Context(), processortest.NewNopSettings(factory.Type()), factory.CreateDefaultConfig(), consumertest.NewNop())
	assert.Error(t, err, "metrics belong to no trace")
}

// One configuration is one joiner for all its pipelines, until the last of them has ended.
func TestPipelinesShareWhatIsKnown(t *testing.T) {
	factory := NewFactory()
	set, cfg := processortest.NewNopSettings(factory.Type()), factory.CreateDefaultConfig()
	joinerOf := func(cfg component.Config) (*joiner, component.Component) {
		p, err := factory.CreateTraces(t.Context(), set, cfg, consumertest.NewNop())
		require.NoError(t, err)
		return p.(*tracesProcessor).joiner, p
	}
	first, traces := joinerOf(cfg)
	logs, err := factory.CreateLogs(t.Context(), set, cfg, consumertest.NewNop())
	require.NoError(t, err)
	assert.Same(t, first, logs.(*logsProcessor).joiner)
	other, otherTraces := joinerOf(factory.CreateDefaultConfig())
	assert.NotSame(t, first, other)
	require.NoError(t, traces.Shutdown(t.Context()))
	second, again := joinerOf(cfg)
	assert.Same(t, first, second, "the logs' pipeline still has it")
	for _, p := range []component.Component{logs, again, otherTraces} {
		require.NoError(t, p.Shutdown(t.Context()))
	}
	third, last := joinerOf(cfg)
	assert.NotSame(t, first, third)
	require.NoError(t, last.Shutdown(t.Context()))
}
